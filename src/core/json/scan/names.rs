//! Names of members that were met before: records of a stream have the same ones, in the same order.

use std::{collections::HashMap, iter, ops::Range, sync::Arc};

use foldhash::fast::FixedState;

/// How many names are kept from one object to the next.
const KEPT: usize = 128;

/// How many names are known at most.
const MOST: usize = 2 * KEPT;

/// What is longer is no name that anybody gives: it is not kept.
const LONGEST: usize = 256;

/// The place of no name.
const NONE: usize = usize::MAX;

/// How many outlines are kept: records that leave out members have several.
const OUTLINES: usize = 16;

/// The names of an object in their order, and how much stands before each, which many objects share.
/// They mean what is written, and differ.
#[derive(Debug, Clone)]
pub(in crate::core) struct KeyOrder(Arc<[(usize, usize)]>);

impl KeyOrder {
    /// True when both are surely of the same names, as far from the values before them.
    pub(in crate::core) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The names of the objects of a walk, and which one comes behind which.
#[derive(Debug)]
pub(super) struct Names {
    known: Vec<NoticedName>,
    /// Their places, by their keys.
    places: HashMap<u64, usize, FixedState>,
    /// The place of the one that came first the last time.
    first: usize,
    /// The place of the last one that was met.
    last: usize,
    /// The place of the one that came here the last time.
    expected: usize,
    /// How many this object has had so far.
    count: usize,
    /// Those of this object mean what is written, as far as it is known.
    plain: bool,
    /// The last ones, by the places of their names.
    outlines: Vec<KeyOrder>,
    /// The place of the name with which the last of them ends, and how many it has, when nothing was
    /// learnt since.
    ended: Option<(usize, usize)>,
    /// Names are noticed: not by a walk over one object, of which no other one has the use.
    learns: bool,
}

/// A name that was met.
#[derive(Debug)]
struct NoticedName {
    /// As it is written, from the end of what is before it to its value.
    written: Vec<u8>,
    /// The beginning of that, and which of its bits count.
    head: [u64; HEAD],
    bits: [u64; HEAD],
    /// Where the name itself begins there, without its quotes.
    start: usize,
    length: usize,
    key: u64,
    /// The place of the one that came behind it the last time.
    next: usize,
}

/// How many words of a name are compared together: as much as most names have.
const HEAD: usize = 4;

/// How many bytes a word has.
const WORD: usize = 8;

/// A name, where it was met.
#[derive(Debug)]
pub(super) struct KnownName {
    /// Where it stands, without the quotes.
    pub(super) name: Range<usize>,
    /// Its hash.
    pub(super) key: u64,
    /// Where its value begins, or white space before it.
    pub(super) value: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            places: HashMap::default(),
            first: NONE,
            last: NONE,
            expected: NONE,
            count: 0,
            plain: true,
            outlines: Vec::new(),
            ended: None,
            learns: true,
        }
    }
}

impl Names {
    /// None, and none will be: to notice the names of an object takes three times as long as to go over
    /// it.
    pub(super) fn unnoticed() -> Self {
        Self {
            learns: false,
            ..Self::default()
        }
    }

    /// Another object begins.
    pub(super) fn begin(&mut self) {
        if self.known.len() > KEPT {
            *self = Self::default();
        }
        self.last = NONE;
        self.expected = self.first;
        self.count = 0;
        self.plain = true;
    }

    /// The name that begins at `at`, or behind it, if it is the one that came here the last time.
    #[expect(
        clippy::inline_always,
        reason = "called once a member, for half a dozen numbers"
    )]
    #[inline(always)]
    pub(super) fn expected(&mut self, text: &[u8], at: usize) -> Option<KnownName> {
        let name = self.known.get(self.expected)?;
        if !name.begins(text.get(at..)?) {
            return None;
        }
        self.last = self.expected;
        self.expected = name.next;
        self.count += 1;
        let start = at + name.start;
        Some(KnownName {
            name: start..start + name.length,
            key: name.key,
            value: at + name.written.len(),
        })
    }

    /// The outline of the object that ends here. `None` when its names may not mean what is written,
    /// or may not differ.
    pub(super) fn outline(&mut self) -> Option<&KeyOrder> {
        if !self.plain {
            return None;
        }
        let end = Some((self.last, self.count));
        if self.ended != end {
            self.find_outline()?;
            self.ended = end;
        }
        self.outlines.last()
    }

    /// Makes the outline of this object the last one. `None` when a name comes twice: the way from the
    /// first name to the last one, by what came behind each at last, is then shorter.
    fn find_outline(&mut self) -> Option<()> {
        let first = Some(self.first).filter(|_| self.last != NONE);
        let next = |at: &usize| {
            let name = self.known.get(*at).filter(|_| *at != self.last);
            name.map(|name| name.next)
        };
        let places = iter::successors(first, next);
        let start = |at: usize| self.known.get(at).map_or(0, |name| name.start);
        let places: Arc<[_]> = places.map(|at| (at, start(at))).collect();
        if places.len() != self.count {
            return None;
        }
        let known = self.outlines.iter().position(|known| known.0 == places);
        let outline = match known {
            Some(at) => self.outlines.remove(at),
            None => KeyOrder(places),
        };
        if self.outlines.len() == OUTLINES {
            self.outlines.remove(0);
        }
        self.outlines.push(outline);
        Some(())
    }

    /// Notes a name that was not expected, which is `written` like this, and whether it has escapes.
    pub(super) fn learn(&mut self, met: &KnownName, written: &[u8], escaped: bool) {
        self.ended = None;
        let place = if escaped || !self.learns {
            None
        } else {
            self.place(met, written)
        };
        let Some(place) = place else {
            // Whether it comes twice is not told.
            self.plain = false;
            self.expected = NONE;
            return;
        };
        match self.known.get_mut(self.last) {
            Some(last) => last.next = place,
            None => self.first = place,
        }
        self.last = place;
        self.count += 1;
        if let Some(name) = self.known.get_mut(place) {
            name.write(met, written);
            self.expected = name.next;
        }
    }

    /// The place of a name, which is still to be written there. `None` when it gets none.
    fn place(&mut self, met: &KnownName, written: &[u8]) -> Option<usize> {
        if written.len() > LONGEST {
            return None;
        }
        if let Some(place) = self.places.get(&met.key) {
            // Another name may have the same hash.
            let name = self.known.get(*place)?;
            return (name.text() == met.text(written)).then_some(*place);
        }
        if self.known.len() == MOST {
            return None;
        }
        self.places.insert(met.key, self.known.len());
        self.known.push(NoticedName {
            written: Vec::new(),
            head: [0; HEAD],
            bits: [0; HEAD],
            start: 0,
            length: 0,
            key: met.key,
            next: NONE,
        });
        Some(self.known.len() - 1)
    }
}

impl KnownName {
    /// Where the name begins in what is `written` up to its value.
    fn start_in(&self, written: &[u8]) -> usize {
        written.len() - (self.value - self.name.start)
    }

    /// The name there.
    fn text<'w>(&self, written: &'w [u8]) -> Option<&'w [u8]> {
        let start = self.start_in(written);
        written.get(start..start + self.name.len())
    }
}

impl NoticedName {
    /// True when `text` begins with it.
    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        let Some(head) = text.first_chunk::<{ HEAD * WORD }>() else {
            return self.is_all_in(text);
        };
        let words = head.as_chunks::<WORD>().0.iter().zip(&self.head);
        let differs = words.zip(&self.bits).fold(0, |any, ((word, own), bits)| {
            any | (u64::from_le_bytes(*word) ^ own) & bits
        });
        differs == 0 && (self.written.len() <= HEAD * WORD || self.is_all_in(text))
    }

    /// Whether the name stands there, whatever its length.
    #[inline(never)]
    fn is_all_in(&self, text: &[u8]) -> bool {
        text.starts_with(&self.written)
    }

    /// Takes over how it is written.
    fn write(&mut self, met: &KnownName, written: &[u8]) {
        self.written.clear();
        self.written.extend_from_slice(written);
        self.start = met.start_in(written);
        self.length = met.name.len();
        let (mut head, mut bits) = ([0; HEAD * WORD], [0; HEAD * WORD]);
        for ((own, counts), byte) in head.iter_mut().zip(&mut bits).zip(written) {
            (*own, *counts) = (*byte, 0xff);
        }
        let words = |bytes: &[u8; HEAD * WORD]| {
            let mut words = bytes.as_chunks::<WORD>().0.iter();
            std::array::from_fn(|_| words.next().map_or(0, |word| u64::from_le_bytes(*word)))
        };
        (self.head, self.bits) = (words(&head), words(&bits));
    }

    /// The name itself.
    fn text(&self) -> Option<&[u8]> {
        self.written.get(self.start..self.start + self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KeyOrder, Walker};
    use crate::core::json::span::within;

    /// An object of these names, with this between them and their values.
    fn object(names: &[u16], colon: &str) -> String {
        let members = names.iter().map(|name| format!("\"n{name}\"{colon}{name}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// Objects' names, some of them twice in one, and what is written behind them.
    fn several() -> impl Strategy<Value = Vec<(Vec<u16>, &'static str)>> {
        let some = prop::sample::subsequence((0..5).collect::<Vec<u16>>(), 0..=5);
        let any = prop::collection::vec(0u16..12, 0..10);
        let colon = prop::sample::select(vec![":", ": ", " :", " : "]);
        prop::collection::vec((prop_oneof![3 => some, 1 => any], colon), 1..30)
    }

    /// The names that a walker finds, and whether it is sure that they differ.
    fn found(walker: &mut Walker, text: &str) -> (Vec<String>, Vec<u64>, bool) {
        let (mut names, mut keys) = (Vec::new(), Vec::new());
        let mut spans = Vec::new();
        let object = walker.object::<false>(text.as_bytes(), &mut spans);
        for span in spans {
            names.push(text.get(within(&span.name)).unwrap().to_owned());
            keys.push(span.key);
        }
        (names, keys, object.unwrap().outline.is_some())
    }

    proptest! {
        #[test]
        fn what_was_met_before_changes_nothing(objects in several()) {
            let mut walker = Walker::default();
            for (names, colon) in objects {
                let text = object(&names, colon);
                prop_assert_eq!(found(&mut walker, &text), found(&mut Walker::default(), &text));
            }
        }

        #[test]
        fn what_has_one_outline_has_the_same_names(objects in several()) {
            let mut walker = Walker::default();
            let mut met: Vec<(Vec<u16>, Option<KeyOrder>)> = Vec::new();
            for (names, colon) in objects {
                let (text, mut spans) = (object(&names, colon), Vec::new());
                let object = walker.object::<false>(text.as_bytes(), &mut spans).unwrap();
                let outline = object.outline.cloned();
                let is = |other: &Option<KeyOrder>| {
                    outline.as_ref().zip(other.as_ref()).is_some_and(|(own, other)| own.is(other))
                };
                prop_assert!(met.iter().all(|(others, other)| *others == names || !is(other)));
                if let Some((_, last)) = met.last().filter(|(last, _)| *last == names) {
                    prop_assert!(outline.is_none() || is(last));
                }
                met.push((names, outline));
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
        assert!(!found(&mut walker, &object(&all, ":")).2);
        assert!(found(&mut walker, &object(&all[..100], ":")).2);
        assert!(found(&mut walker, &object(&all[100..200], ":")).2);
        assert!(found(&mut walker, &object(&all[100..120], " : ")).2);
        assert!(!found(&mut walker, &object(&[1, 2, 1], " : ")).2);
    }
}
