//! Details by the list: a thousand a call, where the tenant's v2 list carries v1 detections.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::core::{
    json::record::JsonObject,
    mapping::enrichment::{EnrichRequest, OwnedObject},
    position::{cursor::Listed, paging::Page, window::Window},
};

/// What is known of the list holds so long.
const KNOWN_FOR: TimeDelta = TimeDelta::hours(24);

/// Pages whose details wait for their records.
const HELD_PAGES: u32 = 2;

/// What a list of detections without times is asked for around the one it is about.
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// True when the list is worth a look: it carries the records, or nobody knows of late.
pub(super) fn is_worth_a_look(known: Option<Listed>, now: DateTime<Utc>) -> bool {
    known.is_none_or(|known| known.carried) || is_due(known, now)
}

/// True when it has to be found out whether the list carries the records.
pub(super) fn is_due(known: Option<Listed>, now: DateTime<Utc>) -> bool {
    known.is_none_or(|known| (now - known.at).abs() >= KNOWN_FOR)
}

/// The time that records are of, if all of them have one.
pub(super) fn span(records: &[EnrichRequest<'_>]) -> Option<Window> {
    let times = || records.iter().map(|request| request.facts.time);
    let first = times().min()??;
    let last = times().max()??;
    Some(Window {
        from: first,
        to: last + SECOND,
    })
}

/// The walk over the list of details, which goes beside the stream's own walk over its list.
#[derive(Debug, Default)]
pub(super) struct ListWalk {
    window: Option<Window>,
    /// The page that comes next; `None` at the end.
    next: Option<Page>,
    pages: u32,
    /// Details that were read, and of these the ones that a record asked for.
    read: usize,
    used: usize,
    /// Details that no record has asked for yet, each with the number of its page.
    waiting: HashMap<String, (u32, OwnedObject)>,
}

impl ListWalk {
    /// Goes on when the walk is over the time of the records, else begins a new one: over the window
    /// that the stream is being read in, if they are of it.
    pub(super) fn enter(&mut self, span: Window, stream: Option<Window>) {
        let covers = |window: &Window| window.from <= span.from && span.to <= window.to + SECOND;
        if !self.window.as_ref().is_some_and(covers) {
            *self = Self {
                window: Some(stream.filter(covers).unwrap_or(span)),
                next: Some(Page::First),
                ..Self::default()
            };
        }
    }

    /// The window and page to ask for, if that is likely to save calls for so many records, of which
    /// `batch` can be asked for by their ids at once.
    pub(super) fn wanted(&self, left: usize, batch: usize) -> Option<(Window, &Page)> {
        let (window, next) = self.window.zip(self.next.as_ref())?;
        let is_lean = self.pages > HELD_PAGES && self.used * 4 < self.read;
        let goes_well = self.read > 0 && self.used * 2 >= self.read;
        let saves = left >= batch || left > 0 && goes_well;
        (saves && !is_lean).then_some((window, next))
    }

    /// A page has come. Of details that nobody asks for only the last ones are held.
    pub(super) fn add(&mut self, details: Vec<(String, OwnedObject)>, next: Option<&str>) {
        self.pages += 1;
        self.read += details.len();
        // A list that goes in a circle is not walked in one.
        let next = next.map(|token| Page::Token(token.to_owned()));
        self.next = next.filter(|next| self.next.as_ref() != Some(next));
        let oldest = (self.pages + 1).saturating_sub(HELD_PAGES);
        self.waiting.retain(|_, (page, _)| *page >= oldest);
        let page = self.pages;
        let details = details.into_iter();
        self.waiting
            .extend(details.map(|(id, detail)| (id, (page, detail))));
    }

    /// The list ends here: it gives no more pages.
    pub(super) fn end(&mut self) {
        self.next = None;
    }

    /// Moves the details of these records to `found`, and leaves the ids of the others.
    pub(super) fn take(&mut self, left: &mut Vec<&str>, found: &mut HashMap<String, OwnedObject>) {
        left.retain(|id| match self.waiting.remove(*id) {
            Some((_, detail)) => {
                self.used += 1;
                found.insert((*id).to_owned(), detail);
                false
            }
            None => true,
        });
    }
}

/// True when one shape of a record has every member of another one, however far in.
pub(super) fn has_all_of(one: &JsonObject<'_>, other: &JsonObject<'_>) -> bool {
    other.iter().all(|(name, value)| {
        one.get(name).is_some_and(|own| {
            let inner = JsonObject::of_value(value);
            inner.is_none_or(|inner| {
                JsonObject::of_value(own).is_some_and(|own| has_all_of(&own, &inner))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(id: usize) -> (String, OwnedObject) {
        let raw = serde_json::value::to_raw_value(&serde_json::json!({"uuid": id.to_string()}));
        (id.to_string(), OwnedObject::of(&raw.unwrap()).unwrap())
    }

    fn window(from: i64, to: i64) -> Window {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        Window {
            from: time(from),
            to: time(to),
        }
    }

    /// How many of the ids have no detail in what waits.
    fn left(walk: &mut ListWalk, ids: std::ops::Range<usize>) -> usize {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        let mut left: Vec<&str> = ids.iter().map(String::as_str).collect();
        walk.take(&mut left, &mut HashMap::new());
        left.len()
    }

    #[test]
    fn few_records_are_asked_for_by_their_ids() {
        let mut walk = ListWalk::default();
        walk.enter(window(10, 20), None);
        assert_eq!(walk.wanted(99, 100), None);
        assert_eq!(walk.wanted(100, 100), Some((window(10, 20), &Page::First)));
    }

    #[test]
    fn a_walk_goes_on_over_the_window_that_the_stream_is_read_in() {
        let mut walk = ListWalk::default();
        walk.enter(window(10, 20), Some(window(0, 100)));
        assert_eq!(walk.wanted(500, 100), Some((window(0, 100), &Page::First)));
        walk.add((0..1_000).map(detail).collect(), Some("2"));
        assert_eq!(left(&mut walk, 0..500), 0);
        walk.enter(window(20, 30), None);
        assert_eq!(left(&mut walk, 500..1_010), 10);
        // It goes well: the next page will be needed anyway.
        assert_eq!(
            walk.wanted(10, 100),
            Some((window(0, 100), &Page::Token("2".to_owned())))
        );
        // Another time is another walk.
        walk.enter(window(500, 600), Some(window(0, 100)));
        assert_eq!(
            walk.wanted(500, 100),
            Some((window(500, 600), &Page::First))
        );
    }

    #[test]
    fn a_list_of_other_records_is_left_after_a_few_pages_and_holds_little() {
        let mut walk = ListWalk::default();
        walk.enter(window(0, 10), None);
        for page in 0..3 {
            assert!(walk.wanted(1_000, 100).is_some());
            let details = (page * 1_000..(page + 1) * 1_000).map(detail);
            walk.add(details.collect(), Some(&format!("{page}")));
        }
        assert_eq!(walk.wanted(1_000, 100), None);
        assert_eq!(walk.waiting.len(), 2_000);
    }

    #[test]
    fn a_page_that_names_itself_as_the_next_one_is_the_last() {
        let mut walk = ListWalk::default();
        walk.enter(window(0, 10), None);
        walk.add(Vec::new(), Some("2"));
        walk.add(Vec::new(), Some("2"));
        assert_eq!(walk.wanted(1_000, 100), None);
    }

    #[test]
    fn a_shape_with_fewer_members_is_told_however_far_in_they_are() {
        let has = |one: &str, other: &str| {
            let members = |text| JsonObject::of(str::as_bytes(text)).unwrap();
            has_all_of(&members(one), &members(other))
        };
        assert!(has(r#"{"a":1,"b":{"c":2,"d":0}}"#, r#"{"b":{"c":3}}"#));
        assert!(!has(r#"{"b":{"c":2}}"#, r#"{"b":{"c":3,"d":4}}"#));
        // Nothing is as good as nothing.
        assert!(has(r#"{"b":{"c":2}}"#, r#"{"b":{"c":3,"d":null}}"#));
        assert!(!has(r#"{"b":null}"#, r#"{"b":{"c":3}}"#));
        assert!(!has("{}", r#"{"a":1}"#));
    }
}
