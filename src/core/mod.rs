//! Decisions, and nothing else: no IO, no clock, no environment.

pub mod arm;
pub mod assets;
pub mod batch;
mod canonical;
pub mod columns;
pub mod cursor;
pub mod dedupe;
pub mod endpoint;
pub mod estimate;
pub mod import;
pub mod layout;
pub mod lines;
pub mod mapping;
pub mod odata;
pub mod page;
pub mod paging;
pub mod record;
pub mod request;
pub mod retry;
pub mod roles;
pub mod row;
mod scan;
pub mod schema;
pub mod shorten;
pub mod sift;
pub mod snapshot;
pub mod window;
