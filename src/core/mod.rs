//! Decisions, and nothing else: no IO, no clock, no environment.

pub mod batch;
pub mod columns;
pub mod cursor;
pub mod page;
pub mod record;
pub mod shorten;
pub mod window;
