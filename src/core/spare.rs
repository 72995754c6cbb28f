//! Memory that is used again and again. An allocator that gets large pieces back often keeps them,
//! each thread its own, so that a run would hold many times what it needs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Large pieces of memory that nobody uses.
#[derive(Clone, Default)]
pub struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spares {
    /// What is given back beyond this goes back to the allocator.
    const MOST: usize = 8;

    /// An empty buffer with room for so many bytes.
    pub fn buffer(&self, bytes: usize) -> Buffer {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spare = spares.pop().unwrap_or_default();
        spare.reserve_exact(bytes);
        Buffer {
            bytes: spare,
            home: Some(self.clone()),
        }
    }

    fn give(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < Self::MOST {
            spares.push(bytes);
        }
    }
}

/// Bytes, whose memory goes back to the [`Spares`] that it came from.
#[derive(Default)]
pub struct Buffer {
    /// The bytes.
    pub bytes: Vec<u8>,
    home: Option<Spares>,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        self.bytes.clone().into()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.bytes).fmt(f)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_was_in_it_is_not() {
        let spares = Spares::default();
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
        let spares = Spares::default();
        let many: Vec<Buffer> = (0..20).map(|_| spares.buffer(10)).collect();
        drop(many);
        assert_eq!(spares.0.lock().unwrap().len(), Spares::MOST);
    }
}
