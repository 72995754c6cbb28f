//! Decisions, and nothing else: no IO, no clock, no environment.
//!
//! | room | what it decides |
//! |---|---|
//! | [`count`] | how a number of things is said |
//! | [`json`] | where a record, a member, a line begins and ends in the bytes of an answer |
//! | [`position`] | where a stream stands, what it asks for next, what of an answer is new |
//! | [`mapping`] | which columns of a row a record fills, and what stays over |
//! | [`protocol`] | how an API is asked, and what its answers mean |
//! | [`totals`] | what the runs of a stream add up to |
//! | [`metrics`] | which numbers are told of all that, and by which names |
//! | [`spelling`] | which name was probably meant |

pub mod count;
pub mod json;
pub mod mapping;
pub mod metrics;
pub mod position;
pub mod protocol;
pub mod spelling;
pub mod totals;
