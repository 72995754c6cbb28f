//! The library behind the `sentinel-connector` binary.
#![forbid(unsafe_code)]

pub mod config;
pub mod core;
pub mod error;
pub mod host;
pub mod io;
pub mod logging;
pub mod sink;
pub mod storage;
