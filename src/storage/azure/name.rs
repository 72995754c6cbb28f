//! Names of ours as keys of entities and parts of blob names.

use xxhash_rust::xxh3::xxh3_128;

/// A name longer than this is cut and made unique by a hash. A blob's name has 1,024 characters at
/// most, and ours have up to five parts (learn.microsoft.com/rest/api/storageservices/
/// naming-and-referencing-containers--blobs--and-metadata).
const MAX: usize = 180;

/// Letters, digits, `-`, `_` and `.` stay; every other byte becomes `!` and two hex digits. Keys may
/// hold no `/`, `\`, `#`, `?` or control character, and need care with `%` and `'`; a blob's name
/// may not end with a `.`.
pub(super) fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let last = name.len().saturating_sub(1);
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || byte == b'-'
            || byte == b'_'
            || (byte == b'.' && at != last);
        if plain {
            text.push(byte.into());
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
            text.push('!');
            text.extend(digits.into_iter().flatten());
        }
    }
    if text.is_empty() {
        // Blob names have no empty parts.
        text.push('!');
    }
    if text.len() > MAX {
        text.truncate(MAX - 34);
        // `!!` is in no other name.
        let hash = format!("{:032x}", xxh3_128(name.as_bytes()));
        text.extend(["!!", &hash]);
    }
    text
}

/// The name that was escaped to `text`: what is `kept` beside it when that is the one, else as far as
/// `text` tells.
pub(super) fn original(text: &str, kept: &str) -> String {
    if escaped(kept) == text {
        return kept.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (b'!', Some(byte)) = (first, byte) {
            bytes.push(byte);
            rest = behind.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("eset.detections", "eset.detections"),
            ("default/eset.detections", "default!2feset.detections"),
            ("a b'%#?\\!", "a!20b!27!25!23!3f!5c!21"),
            ("ü\n", "!c3!bc!0a"),
            ("..", ".!2e"),
            ("", "!"),
        ] {
            assert_eq!(escaped(name), expected);
        }
    }

    proptest! {
        #[test]
        fn different_names_stay_different(one in ".{0,300}", two in ".{0,300}") {
            prop_assert_eq!(one == two, escaped(&one) == escaped(&two));
            prop_assert!(escaped(&one).len() <= MAX);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_known_by_its_escaped_form(name in ".{1,12}", other in ".{0,12}") {
            let text = escaped(&name);
            prop_assert_eq!(original(&text, &name), name.clone());
            prop_assert_eq!(original(&text, &other), name);
        }
    }

    #[test]
    fn long_names_that_begin_alike_stay_different() {
        let long = "x".repeat(1000);
        assert_ne!(escaped(&format!("{long}a")), escaped(&format!("{long}b")));
    }
}
