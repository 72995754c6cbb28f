//! The one integration binary.

#[cfg(test)]
mod sink;
#[cfg(test)]
mod storage;
