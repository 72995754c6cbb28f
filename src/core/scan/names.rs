//! Names of members that were met before: records of a stream have the same ones, in the same order.

use std::{collections::HashMap, ops::Range};

use foldhash::fast::FixedState;

/// How many names are kept from one object to the next.
const KEPT: usize = 128;

/// How many names are known at most.
const MOST: usize = 2 * KEPT;

/// What is longer is no name that anybody gives: it is not kept.
const LONGEST: usize = 256;

/// The place of no name.
const NONE: usize = usize::MAX;

/// The names of the objects of a walk, and which one comes behind which.
#[derive(Debug)]
pub(super) struct Names {
    known: Vec<Name>,
    /// Their places, by their keys.
    places: HashMap<u64, usize, FixedState>,
    /// The place of the one that came first the last time.
    first: usize,
    /// The place of the last one that was met.
    last: usize,
    /// Counts objects.
    object: u64,
    /// The names of this object mean what is written, and surely differ.
    pub(super) plain: bool,
}

/// A name that was met.
#[derive(Debug)]
struct Name {
    /// As it is written, from its first quote to its value.
    written: Vec<u8>,
    /// How much of that is the name, without its quotes.
    length: usize,
    key: u64,
    escaped: bool,
    /// The place of the one that came behind it the last time.
    next: usize,
    /// The last object that has it.
    object: u64,
}

/// A name, where it was met.
#[derive(Debug)]
pub(super) struct Met {
    /// Where it stands, without the quotes.
    pub(super) name: Range<usize>,
    /// Its hash.
    pub(super) key: u64,
    /// Where its value begins.
    pub(super) value: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            places: HashMap::default(),
            first: NONE,
            last: NONE,
            object: 0,
            plain: true,
        }
    }
}

impl Names {
    /// Another object begins.
    pub(super) fn begin(&mut self) {
        if self.known.len() > KEPT {
            *self = Self {
                object: self.object,
                ..Self::default()
            };
        }
        self.last = NONE;
        self.object += 1;
        self.plain = true;
    }

    /// The name at `at`, if it is the one that came here the last time.
    #[inline]
    pub(super) fn expected(&mut self, text: &[u8], at: usize) -> Option<Met> {
        let place = self
            .known
            .get(self.last)
            .map_or(self.first, |last| last.next);
        let name = self.known.get_mut(place)?;
        if !text.get(at..)?.starts_with(&name.written) {
            return None;
        }
        self.last = place;
        self.plain &= name.is_new_in(self.object);
        Some(Met {
            name: at + 1..at + 1 + name.length,
            key: name.key,
            value: at + name.written.len(),
        })
    }

    /// Notes a name that was not expected.
    pub(super) fn learn(&mut self, met: &Met, text: &[u8], escaped: bool) {
        let written = text.get(met.name.start - 1..met.value).unwrap_or_default();
        let known = self.places.get(&met.key).copied();
        if written.len() > LONGEST || (known.is_none() && self.known.len() == MOST) {
            // Whether it comes twice is not told.
            self.plain = false;
            return;
        }
        let place = known.unwrap_or_else(|| {
            self.places.insert(met.key, self.known.len());
            self.known.push(Name {
                written: Vec::new(),
                length: 0,
                key: met.key,
                escaped,
                next: NONE,
                object: 0,
            });
            self.known.len() - 1
        });
        match self.known.get_mut(self.last) {
            Some(last) => last.next = place,
            None => self.first = place,
        }
        self.last = place;
        if let Some(name) = self.known.get_mut(place) {
            name.written.clear();
            name.written.extend_from_slice(written);
            (name.length, name.escaped) = (met.name.len(), escaped);
            self.plain &= name.is_new_in(self.object);
        }
    }
}

impl Name {
    /// True when the object does not have it yet, and it means what is written.
    fn is_new_in(&mut self, object: u64) -> bool {
        std::mem::replace(&mut self.object, object) != object && !self.escaped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Walker;

    /// An object of these names, in one of two ways to write them.
    fn object(names: &[u16], wide: bool) -> String {
        let colon = if wide { " : " } else { ":" };
        let members = names.iter().map(|name| format!("\"n{name}\"{colon}{name}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The names that a walker finds, and whether it is sure that they differ.
    fn found(walker: &mut Walker, text: &str) -> (Vec<String>, Vec<u64>, bool) {
        let (mut names, mut keys) = (Vec::new(), Vec::new());
        let object = walker.object::<false>(text.as_bytes(), |found| {
            names.push(text.get(found.name).unwrap().to_owned());
            keys.push(found.key);
        });
        (names, keys, object.unwrap().plain)
    }

    proptest! {
        #[test]
        fn what_was_met_before_changes_nothing(
            objects in prop::collection::vec(
                (prop::collection::vec(0u16..12, 0..10), any::<bool>()),
                1..20,
            ),
        ) {
            let mut walker = Walker::default();
            for (names, wide) in objects {
                let text = object(&names, wide);
                prop_assert_eq!(found(&mut walker, &text), found(&mut Walker::default(), &text));
            }
        }
    }

    #[test]
    fn a_name_of_any_length_is_found_and_only_short_ones_are_sure_to_differ() {
        let mut walker = Walker::default();
        for length in [1, 250, 300, 70_000] {
            let name = "n".repeat(length);
            for _ in 0..2 {
                let text = format!(r#"{{"{name}":1,"{name}":2}}"#);
                let (names, _, plain) = found(&mut walker, &text);
                assert!(names == [name.as_str(); 2] && !plain);
                let (names, _, plain) = found(&mut walker, &format!(r#"{{"{name}":1}}"#));
                assert_eq!((names, plain), (vec![name.clone()], length < 254));
            }
        }
    }

    #[test]
    fn too_many_names_are_not_sure_to_differ_and_those_of_the_next_object_are() {
        let mut walker = Walker::default();
        let all: Vec<u16> = (0..300).collect();
        assert!(!found(&mut walker, &object(&all, false)).2);
        assert!(found(&mut walker, &object(&all[..100], false)).2);
        assert!(found(&mut walker, &object(&all[100..200], false)).2);
        assert!(found(&mut walker, &object(&all[100..120], true)).2);
        assert!(!found(&mut walker, &object(&[1, 2, 1], true)).2);
    }
}
