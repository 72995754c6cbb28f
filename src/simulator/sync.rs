//! Locks of what requests share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder can't leave anything half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
