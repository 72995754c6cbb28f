//! The embedded tables.
