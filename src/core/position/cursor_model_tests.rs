//! Random sources, clocks and failures against the promise of the cursor: whatever occurred within
//! the lookback of when it became visible is read, unless it was before the first run's history.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::*, at, seconds};
use crate::core::position::window::REWRITE;

/// One record: when it occurred, and when the source showed it.
#[derive(Debug, Clone, Copy)]
struct ModelRecord {
    event: i64,
    seen: i64,
}

/// What the source does with one request, and how long it takes for it.
#[derive(Debug, Clone, Copy)]
enum Reaction {
    ModelAnswer,
    /// The page or delta token is unknown; an answer when there is none.
    Refuse,
    /// There is no token feed; an answer to a window.
    NoFeed,
    /// The run ends here.
    Fail,
    /// The run ends here, and its last moves were not saved.
    Crash(usize),
}

#[derive(Debug, Clone)]
struct Run {
    /// How long before it nothing happened.
    pause: i64,
    reactions: Vec<(Reaction, i64)>,
}

const PAGE: usize = 3;

struct Model<'a> {
    records: &'a [ModelRecord],
    pace: &'a Pace,
    has_feed: bool,
    now: i64,
    saved: StreamState,
    read: BTreeSet<usize>,
    /// The first floor that was saved: what is promised.
    promise: Option<DateTime<Utc>>,
}

/// An answer: the records, the next page, the next token.
type ModelAnswer = (Vec<usize>, Option<String>, Option<String>);

impl Model<'_> {
    /// Everything that the slice holds was fixed when its first page was asked for.
    fn answer(&self, open: &OpenSlice) -> ModelAnswer {
        let (asked, offset) = match open.page.to_string().split_once(':') {
            Some((asked, offset)) => (asked.parse().unwrap(), offset.parse().unwrap()),
            None => (self.now, 0),
        };
        let holds = |record: &ModelRecord| match &open.slice {
            Slice::Window(window) => (window.from..window.to).contains(&at(record.event)),
            Slice::Token(token) => record.seen > token.parse().unwrap(),
            Slice::Latest | Slice::Ingested(_) | Slice::Pass => false,
        };
        let all: Vec<usize> = (0..self.records.len())
            .filter(|at| self.records[*at].seen <= asked && holds(&self.records[*at]))
            .collect();
        let end = (offset + PAGE).min(all.len());
        let page = all[offset.min(end)..end].to_vec();
        let more = end < all.len();
        let token = (!more && !matches!(open.slice, Slice::Window(_))).then(|| asked.to_string());
        (page, more.then(|| format!("{asked}:{end}")), token)
    }

    /// The move that the reader makes of a request.
    fn ask(&mut self, open: &OpenSlice, reaction: Reaction) -> Option<Transition> {
        let has_position = !open.page.is_first() || matches!(open.slice, Slice::Token(_));
        let is_window = matches!(open.slice, Slice::Window(_));
        let now = at(self.now);
        Some(match reaction {
            Reaction::Fail | Reaction::Crash(_) => return None,
            Reaction::Refuse if !open.page.is_first() => Transition::PageRefused,
            Reaction::Refuse if has_position => Transition::TokenRefused {
                reason: String::new(),
                at: now,
            },
            Reaction::NoFeed if !is_window => Transition::FeedMissing { at: now },
            _ => {
                let (records, next, token) = self.answer(open);
                self.read.extend(records);
                let slice = open.slice.clone();
                let began = if slice == Slice::Latest {
                    now
                } else {
                    open.began
                };
                match next {
                    Some(next) => Transition::Page {
                        slice,
                        next: Page::Token(next),
                        began,
                    },
                    None => Transition::Slice {
                        slice,
                        token,
                        began,
                    },
                }
            }
        })
    }

    fn run(&mut self, run: &Run) {
        self.now += run.pause;
        let mut steps = RunProgress::default();
        let mut states = vec![self.saved.clone()];
        let mut lost = 0;
        let healthy = (Reaction::ModelAnswer, 0);
        let began = at(self.now);
        for (reaction, took) in run
            .reactions
            .iter()
            .copied()
            .chain(std::iter::repeat(healthy))
        {
            let plan = states.last().unwrap().clone();
            let Some(open) = plan.next(self.has_feed, self.pace, steps, began) else {
                break;
            };
            self.now += took;
            let Some(change) = self.ask(&open, reaction) else {
                if let Reaction::Crash(moves) = reaction {
                    lost = moves;
                }
                break;
            };
            if let Transition::Slice { slice, .. } = &change {
                steps.window |= matches!(slice, Slice::Window(_));
                steps.feed |= matches!(slice, Slice::Token(_));
            }
            states.push(self.moved(&plan, &change));
            assert!(states.len() < 2_000, "the run does not end: {change:?}");
        }
        states.truncate((states.len() - lost.min(states.len() - 1)).max(1));
        self.saved = states.pop().unwrap();
        self.promise = self.promise.or(self.saved.history_start);
        let text = serde_json::to_string(&self.saved).unwrap();
        self.saved = serde_json::from_str(&text).unwrap();
    }

    /// The state after a move, which keeps what must hold of every one.
    fn moved(&self, before: &StreamState, change: &Transition) -> StreamState {
        let mut after = before.clone();
        after.apply(change, self.pace);
        if let (Some(Position::Time(old)), Some(Position::Time(new))) =
            (&before.position, &after.position)
        {
            assert!(new >= old, "the cursor went back");
        }
        if let Transition::Slice {
            slice: Slice::Window(window),
            ..
        } = change
        {
            match (before.backlog, &before.position) {
                (Some(backlog), _) => {
                    assert_eq!(window.from, backlog.from, "a window of the backlog");
                }
                (None, Some(Position::Time(cursor))) => {
                    assert!(window.from <= *cursor && *cursor < window.to, "no tile");
                }
                _ => {}
            }
            assert!(self.promise.is_none_or(|floor| window.from >= floor));
        }
        if let Some(floor) = before.history_start {
            assert!(
                after.history_start.is_some_and(|new| new <= floor),
                "a promise was taken back"
            );
        }
        after
    }
}

fn pace() -> impl Strategy<Value = Pace> {
    (0i64..5_000, 0i64..60_000, 8_000i64..90_000, 0i64..90_000).prop_map(
        |(delay, lookback, step, history)| Pace {
            every: Duration::ZERO,
            delay: seconds(delay),
            lookback: seconds(lookback),
            sweep: Duration::ZERO,
            step: seconds(step),
            history: seconds(history),
            passes: Passes::None,
            rewrite: REWRITE,
        },
    )
}

fn reaction(feed_is_there: bool) -> impl Strategy<Value = Reaction> {
    prop_oneof![
        12 => Just(Reaction::ModelAnswer),
        2 => Just(Reaction::Refuse),
        2 => Just(if feed_is_there { Reaction::ModelAnswer } else { Reaction::NoFeed }),
        1 => Just(Reaction::Fail),
        1 => (0usize..5).prop_map(Reaction::Crash),
    ]
}

fn runs(feed_is_there: bool, longest: i64) -> impl Strategy<Value = Vec<Run>> {
    let reactions = prop::collection::vec((reaction(feed_is_there), 0..=longest), 0..12);
    let pause = prop_oneof![4 => 0i64..20_000, 1 => 20_000i64..200_000];
    prop::collection::vec(
        (pause, reactions).prop_map(|(pause, reactions)| Run { pause, reactions }),
        1..14,
    )
}

/// Records that were seen in `0..span`, up to `late` times the lookback after they occurred.
fn records(span: i64, late: f64) -> impl Strategy<Value = Vec<(i64, f64)>> {
    prop::collection::vec(
        (0..span, prop_oneof![0.0..=late, Just(late), Just(0.0)]),
        1..60,
    )
}

fn of(parts: &[(i64, f64)], pace: &Pace) -> Vec<ModelRecord> {
    let lookback = pace.lookback.as_secs_f64();
    parts
        .iter()
        .map(|(seen, late)| {
            #[allow(clippy::cast_possible_truncation, reason = "a few days of seconds")]
            let late = (lookback * late) as i64;
            ModelRecord {
                event: seen - late,
                seen: *seen,
            }
        })
        .collect()
}

/// Runs without trouble, long enough for every cursor to pass what was seen.
fn settle(model: &mut Model<'_>, span: i64) {
    let calm = |pause| Run {
        pause,
        reactions: Vec::new(),
    };
    let rest = (span - model.now).max(0) + 10_000;
    model.run(&calm(rest));
    for _ in 0..3 {
        model.run(&calm(10_000));
    }
}

const SPAN: i64 = 400_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn nothing_within_the_lookback_is_ever_skipped(
        pace in pace(),
        records in records(SPAN, 1.0),
        runs in runs(false, 3_000),
        has_feed in any::<bool>(),
        start in 0i64..100_000,
    ) {
        let records = of(&records, &pace);
        let mut model = Model {
            records: &records,
            pace: &pace,
            has_feed,
            now: start,
            saved: StreamState::default(),
            read: BTreeSet::new(),
            promise: None,
        };
        for run in &runs {
            model.run(run);
        }
        settle(&mut model, SPAN);
        let floor = model.promise.unwrap();
        for (number, record) in records.iter().enumerate() {
            let promised = at(record.event) >= floor;
            prop_assert!(
                !promised || model.read.contains(&number),
                "{record:?} was skipped; gaps: {:?}", model.saved.gaps
            );
        }
    }

    #[test]
    fn what_a_feed_loses_is_in_a_gap_however_late_it_was(
        pace in pace(),
        records in records(SPAN, 6.0),
        runs in runs(true, 0),
    ) {
        let records = of(&records, &pace);
        let mut model = Model {
            records: &records,
            pace: &pace,
            has_feed: true,
            now: 0,
            saved: StreamState::default(),
            read: BTreeSet::new(),
            promise: None,
        };
        let mut begun = None;
        for run in &runs {
            model.run(run);
            if begun.is_none() && model.saved.position.is_some() {
                begun = Some(model.now);
            }
        }
        settle(&mut model, SPAN);
        for (number, record) in records.iter().enumerate() {
            let promised = begun.is_some_and(|begun| record.seen > begun);
            let seen = at(record.seen);
            let covered = model.saved.gaps.iter().any(|gap| gap.from <= seen && seen <= gap.to);
            prop_assert!(
                !promised || covered || model.read.contains(&number),
                "{record:?} was lost in silence; gaps: {:?}", model.saved.gaps
            );
        }
    }

    #[test]
    fn a_clock_that_jumps_back_breaks_nothing(
        pace in pace(),
        records in records(SPAN, 1.0),
        runs in runs(false, 3_000),
        jumps in prop::collection::vec(0i64..50_000, 14),
        has_feed in any::<bool>(),
    ) {
        let records = of(&records, &pace);
        let mut model = Model {
            records: &records,
            pace: &pace,
            has_feed,
            now: 100_000,
            saved: StreamState::default(),
            read: BTreeSet::new(),
            promise: None,
        };
        // The order of moves and windows is asserted with every one.
        for (run, jump) in runs.iter().zip(jumps) {
            model.run(run);
            model.now -= jump;
        }
        settle(&mut model, 2 * SPAN);
        prop_assert!(model.saved.complete_until > Some(at(SPAN)), "the stream goes on");
    }
}
