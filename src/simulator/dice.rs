//! Chance that is a pure function of its seed: the same on every machine and in every release.

/// The finaliser of splitmix64: every bit of the input reaches every bit of the output.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash of `seed` and `words`.
pub(crate) fn hash(seed: u64, words: &[u64]) -> u64 {
    words
        .iter()
        .fold(mix(seed ^ 0x9e37_79b9_7f4a_7c15), |state, word| {
            mix(state.rotate_left(17) ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15))
        })
}

/// A hash of `seed` and a text.
pub(crate) fn hash_text(seed: u64, text: &str) -> u64 {
    text.bytes()
        .fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)))
}

/// A stream of draws.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The draws that belong to `words` in the world of `seed`.
    pub(crate) fn new(seed: u64, words: &[u64]) -> Self {
        Self(hash(seed, words))
    }

    /// 64 fresh bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// A number of `[low, high)`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// True once in `n` draws.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A size of `[low, high)`.
    pub(crate) fn size(&mut self, low: usize, high: usize) -> usize {
        low + self.index(high.saturating_sub(low))
    }

    /// An index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.index(items.len());
        &items[index]
    }

    /// Brings `items` into an order of chance.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.index(end + 1);
            items.swap(end, other);
        }
    }

    /// `bytes` random bytes in hex.
    pub(crate) fn hex(&mut self, bytes: usize) -> String {
        const DIGITS: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        ];
        let mut text = String::with_capacity(bytes * 2 + 16);
        while text.len() < bytes * 2 {
            let word = self.next();
            text.extend(
                (0..64)
                    .step_by(4)
                    .map(|bit| DIGITS[(word >> bit & 15) as usize]),
            );
        }
        text.truncate(bytes * 2);
        text
    }
}
