//! The one integration binary.
#![allow(missing_docs, reason = "tests are named, not documented")]

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod assets;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod azure;
#[cfg(test)]
mod azurite;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod command;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod defender;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod host;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod import;
#[cfg(test)]
mod ingestion;
#[cfg(test)]
mod init;
#[cfg(test)]
mod interrupt;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod overlap;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod scale_out;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod sink;
#[cfg(test)]
mod status;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tenant;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod unreachable;
#[cfg(test)]
mod world;
