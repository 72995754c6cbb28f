//! Decisions, and nothing else: no IO, no clock, no environment.

pub mod batch;
mod canonical;
pub mod columns;
pub mod cursor;
pub mod dedupe;
pub mod endpoint;
pub mod import;
pub mod mapping;
pub mod page;
pub mod record;
pub mod request;
pub mod retry;
pub mod row;
pub mod shorten;
pub mod window;
