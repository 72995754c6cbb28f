//! The library behind the `sentinel-connector` binary.
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod core;
pub mod embedded;
pub mod error;
pub mod host;
pub mod io;
pub mod logging;
pub mod pipeline;
pub mod secret;
pub mod simulator;
pub mod sink;
pub mod source;
pub mod storage;
