//! The one integration binary.
#![allow(missing_docs, reason = "tests are named, not documented")]

#[cfg(test)]
mod crash;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod interrupt;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod sink;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod world;
