use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::{prelude::*, sample::select};

use super::*;

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

    fn ask(&self, part: &Part, top: u64) -> Option<PagedAnswer> {
        if part.skip > self.wall {
            return None;
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
            serde_json::from_str(r#"{"@odata.nextLink":"https://x/next"}"#).unwrap()
        } else {
            Frame::default()
        };
        Some(PagedAnswer { ids, tally, frame })
    }

    /// Reads a window to its end: which records came, and which parts were given up.
    fn walk(&self, paging: Paging, window: Window) -> (BTreeSet<usize>, Vec<Window>) {
        let (mut seen, mut left_out) = (BTreeSet::new(), Vec::new());
        let mut page = String::new();
        let mut pages = BTreeSet::new();
        for _ in 0..100_000 {
            assert!(pages.insert(page.clone()), "{page} twice");
            let part = Part::of(window, &page);
            let (Paging::Boundary { top, .. } | Paging::Whole { cap: top }) = paging else {
                panic!("a window");
            };
            let asked = u64::from(part.top.unwrap_or(top));
            let next = match self.ask(&part, asked) {
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

fn services() -> impl Strategy<Value = PagedService> {
    use Order::{NewestFirst, OldestFirst, Other};
    (
        // Few instants, so that many records share one.
        prop::collection::vec(prop_oneof![0i64..20, 0i64..60_000], 0..120),
        1u64..40,
        select(vec![OldestFirst, NewestFirst, Other]),
        select(vec![10, u64::MAX]),
        select(vec![0, 1, 7, u64::MAX]),
    )
        .prop_map(|(times, clamp, order, wall, heavy)| PagedService {
            times,
            // A service that gives less than it is asked for says that there is more.
            links: clamp < 20,
            clamp,
            order,
            wall,
            heavy,
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
        prop_assert_eq!(Part::of(Window { from, to: from }, &part.to_string()), part);
    }

    #[test]
    fn skipping_reads_every_record_of_a_list(records in 0u64..500, top in 1u32..60) {
        let mut page = String::new();
        let mut read = 0;
        loop {
            prop_assert_eq!(skipped(&page), read);
            let mut tally = Tally::default();
            tally.add((records - read).min(u64::from(top)));
            read += tally.count();
            match next(Paging::Skip { top }, None, &page, &Frame::default(), &tally) {
                Next::Page(next) => page = next,
                _ => break,
            }
        }
        prop_assert_eq!(read, records);
    }
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
    match next(paging, Some(window), "", &Frame::default(), tally) {
        Next::Page(page) => page,
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
    let after = next(paging, None, "20", &Frame::default(), &tally);
    assert_eq!(after, Next::Page("30".to_owned()));
}

#[test]
fn files_are_read_one_after_the_other() {
    let frame: Frame = serde_json::from_str(
        r#"{"exportFiles":["https://x/a?sig=s","https://x/b?sig=s"],"generatedTime":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    let none = Frame::default();
    let page = |page: &str, frame| next(Paging::Files, None, page, frame, &Tally::default());
    let first = "2026-01-01T00:00:00Z#0/2#0";
    assert_eq!(page("", &frame), Next::Page(first.to_owned()));
    assert_eq!(
        page("2026-01-01T00:00:00Z#0/2#17", &none),
        Next::Page("2026-01-01T00:00:00Z#1/2#0".to_owned())
    );
    assert_eq!(page("2026-01-01T00:00:00Z#1/2#3", &none), Next::Done);
    assert_eq!(page("", &none), Next::Done);
    let place = FilePage::of(first).unwrap().at(9);
    assert_eq!(FilePage::of(&place.to_string()), Some(place));
}

#[test]
fn only_what_a_service_names_is_a_next_page() {
    let named = |text: &str| {
        let frame: Frame = serde_json::from_str(text).unwrap();
        next(Paging::Link, None, "", &frame, &Tally::default())
    };
    assert_eq!(named("{}"), Next::Done);
    assert_eq!(named(r#"{"@odata.nextLink":""}"#), Next::Done);
    assert_eq!(named(r#"{"@odata.nextLink":null}"#), Next::Done);
    let link = "https://x/y?$skiptoken=z";
    let frame = format!(r#"{{"@odata.nextLink":"{link}","value":[]}}"#);
    assert_eq!(named(&frame), Next::Page(link.to_owned()));
}
