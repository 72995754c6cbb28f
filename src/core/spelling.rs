//! Names that are nearly written: what was probably meant.

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Short names are near to everything.
    let limit = match word.len() {
        0..=2 => 0,
        3..=7 => 1,
        _ => 2,
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The candidate that goes on where `word` ends, or the other way round; for a word of which is known that
/// it is meant to be one of them.
pub fn most_like<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(word) || word.starts_with(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// ` did you mean …?`, as the end of a sentence about a name; nothing where none is near.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_meant_and_short_words_are_near_to_nothing() {
        let words = ["eset.detections", "eset.incidents", "on"];
        assert_eq!(nearest("eset.detection", words), Some("eset.detections"));
        assert_eq!(nearest("of", words), None);
        assert_eq!(most_like("eset", words), Some("eset.incidents"));
        assert_eq!(most_like("eset.devices", words), None);
        assert_eq!(
            hint("eset.incident", words),
            "; did you mean `eset.incidents`?"
        );
        assert_eq!(hint("nothing", words), "");
    }
}
