//! The library behind the `sentinel-connector` binary.
#![forbid(unsafe_code)]

pub mod error;
pub mod io;
pub mod simulator;
