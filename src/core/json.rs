//! Bytes → records: one walk finds where each ends, and what its members say.

pub mod array_splitter;
mod canonical;
pub mod chunk;
pub mod if_absent;
pub mod line_splitter;
pub mod pool;
pub mod record;
pub(in crate::core) mod scan;
mod span;
pub mod time;
