use std::collections::{BTreeSet, HashSet};

use chrono::TimeDelta;
use proptest::{prelude::*, sample::select};

use super::*;

const WHOLE: Paging = Paging::Whole { cap: 10 };
const BOUNDARY: Paging = Paging::Boundary {
    top: 10,
    ordered: true,
};

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_767_225_600_000 + millis).unwrap()
}

/// In which order a service gives its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
    /// By something else than the time.
    Other,
}

/// A service with records at these times; the id of a record is its place.
#[derive(Debug)]
struct PagedService {
    times: Vec<i64>,
    /// The most records that it gives, whatever it is asked for.
    clamp: u64,
    order: Order,
    links: bool,
    /// More than this it does not skip.
    wall: u64,
    /// A page with more expanded records than this fails.
    heavy: u64,
    /// So many pages without a record come before those that have any, each with a link.
    hollow: u64,
}

struct PagedAnswer {
    ids: Vec<usize>,
    tally: Tally,
    frame: Frame,
}

impl PagedService {
    /// The records of a part, in the order in which the service knows them.
    fn all(&self, part: &Part) -> Vec<usize> {
        let inside = |id: &usize| {
            let time = at(self.times[*id]);
            let share = part.share.is_none_or(|(share, shares)| {
                let hash = (*id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                hash % u64::from(shares) == u64::from(share)
            });
            time >= part.window.from && time < part.window.to && share
        };
        let mut ids: Vec<usize> = (0..self.times.len()).filter(inside).collect();
        match self.order {
            Order::OldestFirst => ids.sort_by_key(|id| self.times[*id]),
            // Who ignores `$orderby`.
            Order::NewestFirst => ids.sort_by_key(|id| -self.times[*id]),
            Order::Other => {}
        }
        ids
    }

    /// What stands behind a link: so many pages without a record are still to come, then the
    /// records after so many.
    fn follow(&self, part: &Part, top: u64, link: &str) -> PagedAnswer {
        let (hollow, skip) = link
            .trim_start_matches("https://x/")
            .split_once('/')
            .unwrap();
        let (hollow, skip): (u64, usize) = (hollow.parse().unwrap(), skip.parse().unwrap());
        if hollow > 0 {
            return Self::nothing(hollow - 1, skip as u64);
        }
        let all = self.all(part);
        let most = usize::try_from(top.min(self.clamp)).unwrap();
        let ids: Vec<usize> = all.iter().copied().skip(skip).take(most).collect();
        let mut tally = Tally::default();
        for id in &ids {
            tally.see(Some(at(self.times[*id])));
        }
        let after = skip + ids.len();
        let frame = if after < all.len() {
            linked(&format!("https://x/0/{after}"))
        } else {
            Frame::default()
        };
        PagedAnswer { ids, tally, frame }
    }

    /// A page without a record that names the next one.
    fn nothing(hollow: u64, skip: u64) -> PagedAnswer {
        PagedAnswer {
            ids: Vec::new(),
            tally: Tally::default(),
            frame: linked(&format!("https://x/{hollow}/{skip}")),
        }
    }

    fn ask(&self, part: &Part, top: u64) -> Option<PagedAnswer> {
        if part.skip > self.wall {
            return None;
        }
        if self.hollow > 0 {
            return Some(Self::nothing(self.hollow - 1, part.skip));
        }
        let all = self.all(part);
        let most = top.min(self.clamp);
        let ids: Vec<usize> = all
            .iter()
            .copied()
            .skip(usize::try_from(part.skip).unwrap())
            .take(usize::try_from(most).unwrap())
            .collect();
        if !part.bare && ids.len() as u64 > self.heavy {
            return None;
        }
        let mut tally = Tally::default();
        for id in &ids {
            tally.see(Some(at(self.times[*id])));
        }
        let more = part.skip + (ids.len() as u64) < all.len() as u64;
        let frame = if self.links && more {
            linked("https://x/next")
        } else {
            Frame::default()
        };
        Some(PagedAnswer { ids, tally, frame })
    }

    /// Reads a window to its end: which records came, and which parts were given up.
    fn walk(&self, paging: Paging, window: Window) -> (BTreeSet<usize>, Vec<Window>) {
        let (mut seen, mut left_out) = (BTreeSet::new(), Vec::new());
        let mut page = Page::First;
        let mut pages = HashSet::new();
        for _ in 0..100_000 {
            assert!(pages.insert(page.clone()), "{page} twice");
            let part = page.part(window);
            let (Paging::Boundary { top, .. } | Paging::Whole { cap: top }) = paging else {
                panic!("a window");
            };
            let asked = u64::from(part.top.unwrap_or(top));
            let answer = match page.link() {
                Some(link) => Some(self.follow(&part, asked, link)),
                None => self.ask(&part, asked),
            };
            let next = match answer {
                Some(answer) => {
                    seen.extend(answer.ids);
                    next(paging, Some(window), &page, &answer.frame, &answer.tally)
                }
                None if part.skip > self.wall => {
                    let (left, next) = beyond(paging, Some(window), &page).unwrap();
                    Next::Full(left, next)
                }
                None => Next::Page(smaller(paging, Some(window), &page).unwrap()),
            };
            page = match next {
                Next::Done => return (seen, left_out),
                Next::Page(page) => page,
                Next::Full(left, next) => {
                    left_out.push(left);
                    match next {
                        Some(page) => page,
                        None => return (seen, left_out),
                    }
                }
            };
        }
        panic!("never done");
    }
}

/// What stands around the records of a page that names the next one.
fn linked(link: &str) -> Frame {
    serde_json::from_value(serde_json::json!({ "@odata.nextLink": link })).unwrap()
}

fn services() -> impl Strategy<Value = PagedService> {
    use Order::{NewestFirst, OldestFirst, Other};
    (
        // Few instants, so that many records share one.
        prop::collection::vec(prop_oneof![0i64..20, 0i64..60_000], 0..120),
        1u64..40,
        select(vec![OldestFirst, NewestFirst, Other]),
        select(vec![10, u64::MAX]),
        select(vec![0, 1, 7, u64::MAX]),
        select(vec![0, 0, 1, 3]),
    )
        .prop_map(|(times, clamp, order, wall, heavy, hollow)| PagedService {
            times,
            // A service that gives less than it is asked for says that there is more.
            links: clamp < 20,
            clamp,
            order,
            wall,
            heavy: if hollow > 0 { u64::MAX } else { heavy },
            hollow,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_boundary_reads_every_record_or_says_which_not(service in services()) {
        let window = Window { from: at(0), to: at(60_000) };
        let ordered = service.order != Order::Other;
        let (seen, left_out) = service.walk(Paging::Boundary { top: 20, ordered }, window);
        for (id, time) in service.times.iter().enumerate() {
            let given_up = left_out.iter().any(|w| at(*time) >= w.from && at(*time) < w.to);
            prop_assert!(seen.contains(&id) || given_up, "{id} of {:?}", service.times);
        }
        if service.wall == u64::MAX {
            prop_assert!(left_out.is_empty());
        }
    }

    #[test]
    fn an_answer_that_is_cut_is_asked_for_in_shares(
        times in prop::collection::vec(prop_oneof![0i64..3, 0i64..60_000], 0..200),
        cap in 3u32..40,
    ) {
        let service = PagedService {
            times, clamp: u64::MAX, order: Order::Other, links: false, wall: 0, heavy: u64::MAX,
            hollow: 0,
        };
        let window = Window { from: at(0), to: at(60_000) };
        let (seen, left_out) = service.walk(Paging::Whole { cap }, window);
        prop_assert_eq!(seen.len(), service.times.len());
        prop_assert!(left_out.is_empty());
    }

    #[test]
    fn a_part_is_read_back(
        from in 0i64..1_000_000, length in 0i64..1_000_000, nanos in 0i64..1000,
        skip in 0u64..100, top in prop::option::of(0u32..10),
        share in prop::option::of((0u32..9, 1u32..9)), bare: bool,
    ) {
        let from = at(from) + TimeDelta::nanoseconds(nanos);
        let window = Window { from, to: from + TimeDelta::milliseconds(length) };
        let part = Part { window, skip, top, share, bare };
        let page = Page::from(part);
        prop_assert_eq!(Page::parse(WHOLE, Some(window), &page.to_string()), Some(page));
    }

    #[test]
    fn skipping_reads_every_record_of_a_list(records in 0u64..500, top in 1u32..60) {
        prop_assert_eq!(skip_through(records, top, |_| (u64::MAX, false)), records);
    }

    #[test]
    fn pages_smaller_than_asked_for_end_no_list(
        records in 0u64..2_000, clamp in select(vec![10u64, 50, 100, 200]),
    ) {
        // Half of them say that there is more, half say nothing.
        prop_assert_eq!(skip_through(records, 10_000, |_| (clamp, true)), records);
        prop_assert_eq!(skip_through(records, 10_000, |_| (clamp, false)), records);
    }

    #[test]
    fn any_page_that_names_the_next_one_goes_on(
        records in 0u64..300, clamps in prop::collection::vec(0u64..9, 1..9),
    ) {
        // Pages of any length, empty ones among them.
        let total: u64 = clamps.iter().sum();
        prop_assume!(total > 0);
        let clamp = |page: usize| (clamps[page % clamps.len()], true);
        prop_assert_eq!(skip_through(records, 10_000, clamp), records);
    }
}

/// How many of so many records a walk by `$skip` reads. Each page holds at most so many, by its
/// number, and names the next one or does not. A link goes on behind what its page has shown.
fn skip_through(records: u64, top: u32, clamp: impl Fn(usize) -> (u64, bool)) -> u64 {
    let paging = Paging::Skip { top };
    let (mut page, mut read) = (Page::First, 0);
    for number in 0..100_000 {
        let (most, links) = clamp(number);
        let at = match page.link() {
            Some(link) => link.rsplit('/').next().unwrap().parse().unwrap(),
            None => page.skipped(),
        };
        assert_eq!(at, read, "{page}");
        let mut tally = Tally::default();
        tally.add((records - read).min(u64::from(top)).min(most));
        read += tally.count();
        let frame = if links && read < records {
            linked(&format!("https://x/{number}/{read}"))
        } else {
            Frame::default()
        };
        match next(paging, None, &page, &frame, &tally) {
            Next::Page(next) => page = next,
            _ => return read,
        }
    }
    panic!("never done");
}

/// The records of a window or list may stand behind pages that hold none.
#[test]
fn an_empty_page_that_names_the_next_one_ends_nothing() {
    let window = Window {
        from: at(0),
        to: at(60_000),
    };
    let none = Tally::default();
    let text = "2026-01-01T00:00:00Z/2026-01-01T00:01:00Z";
    let boundary = Paging::Boundary {
        top: 10,
        ordered: true,
    };
    let on = |paging, window, page: &str| {
        let frame = Frame {
            next_page_token: Some("t".to_owned()),
            ..linked("https://x/y?$skiptoken=a@b")
        };
        let page = Page::parse(paging, window, page).unwrap();
        next(paging, window, &page, &frame, &none)
    };
    let link = "https://x/y?$skiptoken=a@b";
    for (paging, window, page, expected) in [
        (Paging::Token, Some(window), "", "t".to_owned()),
        (Paging::Token, None, "s", "t".to_owned()),
        (Paging::Link, Some(window), "", link.to_owned()),
        (boundary, Some(window), "", format!("{text}@{link}")),
        (Paging::Skip { top: 10 }, None, "", format!("0@{link}")),
        (Paging::Skip { top: 10 }, None, "30", format!("30@{link}")),
        (
            Paging::Skip { top: 10 },
            None,
            "30@https://x/a",
            format!("30@{link}"),
        ),
    ] {
        let after = on(paging, window, page);
        let expected = Page::parse(paging, window, &expected).unwrap();
        if paging != Paging::Token {
            assert_eq!(expected.link(), Some(link));
        }
        assert_eq!(after, Next::Page(expected), "{paging:?}");
    }
    // A query has no link that could be followed: what it may leave out is told.
    let whole = on(WHOLE, Some(window), "");
    assert_eq!(whole, Next::Full(window, None));
}

/// A service that links an empty page to itself holds nothing more; one that shows records in a
/// circle may.
#[test]
fn links_in_a_circle_end() {
    let window = Window {
        from: at(0),
        to: at(60_000),
    };
    let boundary = Paging::Boundary {
        top: 10,
        ordered: true,
    };
    let link = Some("https://x/y".to_owned());
    let page = Page::Part(Part::whole(window), link.clone());
    let end = |came| circled(boundary, Some(window), &page, came);
    assert_eq!(end(false), Some(Next::Done));
    assert_eq!(end(true), Some(Next::Full(window, None)));
    let skip = Paging::Skip { top: 10 };
    let page = Page::Skip(0, link);
    assert_eq!(circled(skip, None, &page, false), Some(Next::Done));
    assert_eq!(circled(skip, None, &page, true), None);
    assert_eq!(
        circled(skip, None, &Page::Skip(20, None), false),
        None,
        "no link was followed"
    );
}

#[test]
fn a_tie_at_the_edge_of_a_page_is_read_again() {
    let mut tally = Tally::default();
    for time in [1, 2, 2, 3, 4, 4, 5, 5] {
        tally.see(Some(at(time)));
    }
    let page = after(true, 8, &tally);
    assert_eq!(page, "2026-01-01T00:00:00.005Z/2026-01-01T00:01:00Z");
}

/// The page after a first one over a minute.
fn after(ordered: bool, top: u32, tally: &Tally) -> String {
    let window = Window {
        from: at(0),
        to: at(60_000),
    };
    let paging = Paging::Boundary { top, ordered };
    match next(paging, Some(window), &Page::First, &Frame::default(), tally) {
        Next::Page(page) => page.to_string(),
        other => panic!("{other:?}"),
    }
}

/// It goes on at the half of the window, and so misses nothing between the records.
#[test]
fn a_list_that_is_in_order_by_chance_is_a_set() {
    let half = "2026-01-01T00:00:00Z/2026-01-01T00:00:30Z";
    let tally = |count| {
        let mut tally = Tally::default();
        (1..=count).for_each(|time| tally.see(Some(at(time))));
        tally
    };
    assert_eq!(after(false, 100, &tally(100)), half, "nobody asked for it");
    let few = after(true, 3, &tally(3));
    assert!(few.starts_with(half), "three are too few to tell: {few}");
}

/// A page that repeats a record, or brings more than it was asked for, hides nothing of the next.
#[test]
fn what_is_skipped_is_what_was_asked_for() {
    let mut tally = Tally::default();
    tally.add(13);
    let paging = Paging::Skip { top: 10 };
    let after = next(
        paging,
        None,
        &Page::Skip(20, None),
        &Frame::default(),
        &tally,
    );
    assert_eq!(after, Next::Page(Page::Skip(30, None)));
}

#[test]
fn files_are_read_one_after_the_other() {
    let frame: Frame = serde_json::from_str(
        r#"{"exportFiles":["https://x/a?sig=s","https://x/b?sig=s"],"generatedTime":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    let none = Frame::default();
    let place = |text: &str| Page::parse(Paging::Files, None, text).unwrap();
    let page = |text: &str, frame| {
        let page = place(text);
        next(Paging::Files, None, &page, frame, &Tally::default())
    };
    let first = place("2026-01-01T00:00:00Z#0/2#0");
    assert_eq!(page("", &frame), Next::Page(first));
    assert_eq!(
        page("2026-01-01T00:00:00Z#0/2#17", &none),
        Next::Page(place("2026-01-01T00:00:00Z#1/2#0"))
    );
    assert_eq!(page("2026-01-01T00:00:00Z#1/2#3", &none), Next::Done);
    assert_eq!(page("", &none), Next::Done);
}

#[test]
fn only_what_a_service_names_is_a_next_page() {
    let named = |text: &str| {
        let frame: Frame = serde_json::from_str(text).unwrap();
        next(Paging::Link, None, &Page::First, &frame, &Tally::default())
    };
    assert_eq!(named("{}"), Next::Done);
    assert_eq!(named(r#"{"@odata.nextLink":""}"#), Next::Done);
    assert_eq!(named(r#"{"@odata.nextLink":null}"#), Next::Done);
    let link = "https://x/y?$skiptoken=z";
    let frame = format!(r#"{{"@odata.nextLink":"{link}","value":[]}}"#);
    assert_eq!(named(&frame), Next::Page(Page::Link(link.to_owned())));
}

/// Every paging, with and without a window.
fn ways() -> impl Strategy<Value = (Paging, Option<Window>)> {
    let skip = Paging::Skip { top: 10 };
    let window = Window {
        from: at(0),
        to: at(60_000),
    };
    (
        select(vec![
            Paging::Token,
            Paging::Link,
            skip,
            BOUNDARY,
            WHOLE,
            Paging::Files,
        ]),
        select(vec![None, Some(window)]),
    )
}

/// Texts like those of pages.
fn texts() -> impl Strategy<Value = String> {
    let time = "2026-01-0[1-3]T00:00:0[0-9](\\.[0-9]{1,9})?(Z|\\+00:00)";
    let marks = "((\\+|\\*)[0-9]{1,2}){0,2}(#[0-9]/[0-9])?!?(@https://x/y)?";
    let part = format!("{time}/{time}{marks}");
    prop_oneof![
        ".{0,20}",
        "0?[0-9]{1,20}(@(https://x/y[@#?=a]{0,3})?)?",
        proptest::string::string_regex(&part).unwrap(),
        "[0-9TZ:#-]{0,20}#[0-9]{1,2}/[0-9]#[0-9]{1,3}",
    ]
}

proptest! {
    #[test]
    fn a_page_is_written_as_it_was_read_or_is_none((paging, window) in ways(), text in texts()) {
        let read = Page::parse(paging, window, &text);
        if let Some(read) = &read {
            prop_assert_eq!(read.to_string(), text.clone());
            prop_assert_eq!(read.read_as(paging, window), Some(read.clone()));
        } else {
            prop_assert!(!matches!(paging, Paging::Token | Paging::Link), "{text}");
        }
        // As it comes out of a state, which does not know its paging.
        let json = serde_json::to_string(&text).unwrap();
        let loaded: Page = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(serde_json::to_string(&loaded).unwrap(), json);
        prop_assert_eq!(loaded.read_as(paging, window), read);
    }

    #[test]
    fn a_page_is_read_as_it_was_written(
        skip in any::<u64>(), link in prop::option::of("https://x/.{0,9}"), text in ".{1,20}",
        lines in any::<u64>(), file in 0usize..9,
    ) {
        let window = Window { from: at(0), to: at(60_000) };
        let part = Part { skip, ..Part::whole(window) };
        let file = FilePage { generated: text.clone(), file, files: 9, lines };
        for (paging, window, page) in [
            (Paging::Token, Some(window), Page::Token(text.clone())),
            (Paging::Link, None, Page::Link(text)),
            (Paging::Skip { top: 10 }, Some(window), Page::Skip(skip, link.clone())),
            (BOUNDARY, None, Page::Skip(skip, link.clone())),
            (BOUNDARY, Some(window), Page::Part(part, link.clone())),
            (WHOLE, Some(window), Page::Part(part, link)),
            (Paging::Files, None, Page::File(file)),
        ] {
            prop_assert_eq!(Page::parse(paging, window, &page.to_string()), Some(page));
        }
    }
}

/// The same text is another page where pages go another way.
#[test]
fn a_token_that_looks_like_a_number_stays_one() {
    let of = |paging| Page::parse(paging, None, "30");
    assert_eq!(of(Paging::Token), Some(Page::Token("30".to_owned())));
    assert_eq!(of(Paging::Skip { top: 10 }), Some(Page::Skip(30, None)));
    assert_eq!(of(Paging::Files), None);
    let window = Window {
        from: at(0),
        to: at(60_000),
    };
    assert_eq!(Page::parse(BOUNDARY, Some(window), "30"), None);
}
