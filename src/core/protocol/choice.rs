//! Words that settings say, as far as a stream's constants hang on them.

use std::collections::{BTreeMap, BTreeSet};

/// A setting and one of its words, such as `DEFENDER_STREAMS` and `machines`, or `ESET_ENRICH` and `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice(pub &'static str, pub &'static str);

/// What switches a stream on.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// One of these is enough.
    pub any: &'static [Choice],
    /// Each of these must be made as well.
    pub all: &'static [Choice],
}

impl Switch {
    /// Never on by itself: a base for constants.
    pub const NONE: Self = Self { any: &[], all: &[] };

    /// True when the settings name the stream, whatever else they say.
    pub fn is_named(&self, choices: &Choices) -> bool {
        self.any.iter().any(|choice| choices.has(*choice))
    }

    /// The choices that it depends on.
    pub fn choices(&self) -> impl Iterator<Item = &'static Choice> {
        self.any.iter().chain(self.all)
    }

    /// True when the settings switch the stream on.
    pub fn is_on(&self, choices: &Choices) -> bool {
        self.is_named(choices) && choices.have(self.all)
    }
}

/// Settings of one connection that are words of a list: their defaults included, so that each setting has
/// a word, or says `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices(BTreeMap<&'static str, BTreeSet<String>>);

impl Choices {
    /// Adds words to what a setting says.
    pub fn add<W: Into<String>>(
        &mut self,
        setting: &'static str,
        words: impl IntoIterator<Item = W>,
    ) {
        let said = self.0.entry(setting).or_default();
        said.extend(words.into_iter().map(Into::into));
    }

    /// Lets a setting say this word and no other.
    pub fn set(&mut self, choice: Choice) {
        self.0.insert(choice.0, [choice.1.to_owned()].into());
    }

    /// True when this choice was made, in whichever case its word is spelt.
    pub fn has(&self, Choice(setting, word): Choice) -> bool {
        let mut words = self.words(setting);
        words.any(|said| said.eq_ignore_ascii_case(word))
    }

    /// True when each of these was made.
    pub fn have(&self, all: &[Choice]) -> bool {
        all.iter().all(|choice| self.has(*choice))
    }

    /// The words of a setting, in alphabetical order.
    pub fn words(&self, setting: &str) -> impl Iterator<Item = &str> {
        let words = self.0.get(setting).into_iter().flatten();
        words.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_on_when_it_is_named_and_nothing_speaks_against_it() {
        let switch = Switch {
            any: &[Choice("STREAMS", "alerts"), Choice("STREAMS", "all")],
            all: &[Choice("API", "graph")],
        };
        let mut choices = Choices::default();
        choices.set(Choice("API", "mde"));
        assert!(!switch.is_named(&choices));
        choices.add("STREAMS", ["ALL"]);
        assert!(switch.is_named(&choices));
        assert!(!switch.is_on(&choices));
        choices.set(Choice("API", "graph"));
        assert!(switch.is_on(&choices));
    }
}
