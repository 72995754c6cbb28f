//! Tokens that carry their own state, sealed with the seed: a simulator that was started again
//! goes on with the tokens it gave out before.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::dice::hash;

/// What a token is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    Access = 1,
    Refresh,
    Entra,
    Page,
    Delta,
    Skip,
    Link,
}

/// `words` as a token.
pub(crate) fn seal(seed: u64, purpose: Use, words: &[u64]) -> String {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend(mac(seed, purpose, words).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The words of a token that this seed has sealed for this purpose.
pub(crate) fn open<const N: usize>(seed: u64, purpose: Use, token: &str) -> Option<[u64; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (words, rest) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
    let (sealed, words) = words.split_last()?;
    let valid = rest.is_empty() && *sealed == mac(seed, purpose, words);
    words.try_into().ok().filter(|_| valid)
}

fn mac(seed: u64, purpose: Use, words: &[u64]) -> u64 {
    hash(hash(seed, &[0x5ea1, purpose as u64]), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_seed_and_the_purpose_open_a_token() {
        let token = seal(1, Use::Page, &[5, 6]);
        assert_eq!(open(1, Use::Page, &token), Some([5, 6]));
        assert_eq!(open::<2>(2, Use::Page, &token), None);
        assert_eq!(open::<2>(1, Use::Delta, &token), None);
        assert_eq!(open::<1>(1, Use::Page, &token), None);
        assert_eq!(open::<2>(1, Use::Page, "rubbish"), None);
        assert!(seal(1, Use::Page, &[u64::MAX; 5]).len() <= 128);
    }
}
