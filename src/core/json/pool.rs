//! Pools of memory that is used again and again. An allocator that gets large pieces back often keeps them,
//! each thread its own, so that a run would hold many times what it needs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Things that hold memory and that nobody uses now. What is given back beyond `MOST` goes back to
/// the allocator.
#[derive(Debug)]
pub struct Pool<T, const MOST: usize>(Arc<Mutex<Vec<T>>>);

impl<T, const MOST: usize> Default for Pool<T, MOST> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T, const MOST: usize> Clone for Pool<T, MOST> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, const MOST: usize> Pool<T, MOST> {
    /// The one that was given back last, if there is one.
    pub fn take(&self) -> Option<T> {
        self.all().pop()
    }

    /// Keeps one for later.
    pub fn give(&self, spare: T) {
        let mut all = self.all();
        if all.len() < MOST {
            all.push(spare);
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Large pieces of memory.
pub type BufferPool = Pool<Vec<u8>, 8>;

impl BufferPool {
    /// An empty buffer with room for so many bytes.
    pub fn buffer(&self, bytes: usize) -> PooledBuf {
        let mut spare = self.take().unwrap_or_default();
        spare.reserve_exact(bytes);
        PooledBuf {
            bytes: spare,
            home: Some(self.clone()),
        }
    }
}

/// Bytes, whose memory goes back to the [`BufferPool`] that it came from.
#[derive(Default)]
pub struct PooledBuf {
    /// The bytes.
    pub bytes: Vec<u8>,
    home: Option<BufferPool>,
}

impl From<Vec<u8>> for PooledBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl AsRef<[u8]> for PooledBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Clone for PooledBuf {
    fn clone(&self) -> Self {
        self.bytes.clone().into()
    }
}

impl PartialEq for PooledBuf {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PooledBuf {}

impl fmt::Debug for PooledBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.bytes).fmt(f)
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            home.give(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_was_in_it_is_not() {
        let spares = BufferPool::default();
        let mut first = spares.buffer(1_000);
        first.bytes.extend_from_slice(b"secret");
        let (memory, copy) = (first.bytes.as_ptr(), first.clone());
        drop(first);
        let second = spares.buffer(500);
        assert_eq!((second.bytes.as_ptr(), second.bytes.len()), (memory, 0));
        assert_eq!(copy.as_ref(), b"secret");
        assert_ne!(spares.buffer(500).bytes.as_ptr(), memory);
    }

    #[test]
    fn few_pieces_are_kept() {
        let spares = BufferPool::default();
        let many: Vec<PooledBuf> = (0..20).map(|_| spares.buffer(10)).collect();
        drop(many);
        assert_eq!(std::iter::from_fn(|| spares.take()).count(), 8);
    }
}
