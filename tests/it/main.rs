//! The one integration binary.
#![allow(missing_docs, reason = "tests are named, not documented")]

#[cfg(test)]
<<<<<<< HEAD
mod arrows;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod faults;
=======
mod azurite;
>>>>>>> azstore
#[cfg(test)]
mod host;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod sink;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod world;
