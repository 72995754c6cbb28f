//! Where a stream stands: its cursor, the slice and page that come next, and what was seen before.

pub mod cursor;
pub mod dedupe;
pub mod paging;
pub mod record_key;
pub mod snapshot;
pub mod trend;
pub mod window;
