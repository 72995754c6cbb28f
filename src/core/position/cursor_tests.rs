use chrono::TimeDelta;
use proptest::prelude::*;

use super::{next::CLOCK_SKEW, *};
use crate::core::position::window::{Pace, REWRITE};

#[path = "cursor_model_tests.rs"]
mod model;
#[path = "cursor_refused_tests.rs"]
mod refused;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.try_into().unwrap())
}

fn window(from: i64, to: i64) -> Window {
    Window {
        from: at(from),
        to: at(to),
    }
}

/// Detections: three days of lookback, a day of history and a day a step.
fn pace() -> Pace {
    Pace {
        every: seconds(60),
        delay: Duration::ZERO,
        lookback: seconds(3 * DAY),
        sweep: Duration::ZERO,
        step: seconds(DAY),
        history: seconds(DAY),
        passes: Passes::None,
        rewrite: REWRITE,
    }
}

const FRESH: RunProgress = RunProgress {
    feed_first: false,
    window: false,
    feed: false,
};
const WINDOW_READ: RunProgress = RunProgress {
    feed_first: false,
    window: true,
    feed: false,
};

fn off(now: i64) -> Transition {
    Transition::Off {
        at: at(now),
        until: at(now),
        why: "answered 501".to_owned(),
    }
}

fn slice(state: &StreamState, has_feed: bool, steps: RunProgress, now: i64) -> Option<Slice> {
    state
        .next(has_feed, &pace(), steps, at(now))
        .map(|open| open.slice)
}

fn done(state: &mut StreamState, slice: Slice, token: Option<&str>, began: i64) {
    let change = Transition::Slice {
        slice,
        token: token.map(str::to_owned),
        began: at(began),
    };
    state.apply(&change, &pace());
}

fn refuse(state: &mut StreamState, now: i64) {
    let reason = "answered 400".to_owned();
    state.apply(
        &Transition::TokenRefused {
            reason,
            at: at(now),
        },
        &pace(),
    );
}

fn missing(state: &mut StreamState, now: i64) {
    state.apply(&Transition::FeedMissing { at: at(now) }, &pace());
}

fn token(token: &str) -> Slice {
    Slice::Token(token.to_owned())
}

const SKEW: i64 = CLOCK_SKEW.num_seconds();

/// A feed whose history is read and whose token was used at `now`.
fn running_feed(now: i64) -> StreamState {
    let mut state = StreamState::default();
    done(&mut state, Slice::Latest, Some("first"), now - 60);
    let backlog = window(now - 60 - DAY, now - 60);
    done(&mut state, Slice::Window(backlog), None, now - 60);
    done(&mut state, token("first"), Some("second"), now);
    state
}

#[test]
fn a_feed_begins_with_a_token_then_reads_the_history_then_the_token_once() {
    let mut state = StreamState::default();
    assert_eq!(slice(&state, true, FRESH, 0), Some(Slice::Latest));
    done(&mut state, Slice::Latest, Some("first"), 0);
    assert_eq!(state.position, Some(Position::Token("first".to_owned())));
    assert_eq!(state.backlog, Some(window(-DAY, 0)));
    assert_eq!(state.complete_until, None, "nothing was read yet");

    let history = Slice::Window(window(-DAY, SKEW));
    assert_eq!(slice(&state, true, FRESH, 0), Some(history.clone()));
    done(&mut state, history, None, 0);
    assert_eq!((state.backlog, state.complete_until), (None, Some(at(0))));

    assert_eq!(slice(&state, true, WINDOW_READ, 5), Some(token("first")));
    done(&mut state, token("first"), Some("second"), 5);
    assert_eq!(state.complete_until, Some(at(5)));
    let feed_read = RunProgress {
        feed_first: false,
        feed: true,
        ..WINDOW_READ
    };
    assert_eq!(slice(&state, true, feed_read, 9), None);
    assert_eq!(slice(&state, true, FRESH, 60), Some(token("second")));
    assert!(state.gaps.is_empty());
}

#[test]
fn a_backlog_is_cut_into_steps_that_tile() {
    let mut state = StreamState {
        backlog: Some(window(0, 2 * DAY + HOUR)),
        position: Some(Position::Token("t".to_owned())),
        ..StreamState::default()
    };
    let mut parts = Vec::new();
    while let Some(Slice::Window(part)) = slice(&state, true, FRESH, 2 * DAY + HOUR) {
        parts.push(part);
        done(&mut state, Slice::Window(part), None, 2 * DAY + HOUR);
    }
    assert_eq!(
        parts,
        [
            window(0, DAY),
            window(DAY, 2 * DAY),
            window(2 * DAY, 2 * DAY + HOUR + SKEW)
        ]
    );
}

#[test]
fn the_history_reaches_beyond_the_token_by_more_than_clocks_differ() {
    let mut state = StreamState::default();
    // By the source's clock the token was given minutes later: what came by then is not behind it.
    done(&mut state, Slice::Latest, Some("first"), 0);
    let last = Slice::Window(window(-DAY, SKEW));
    assert_eq!(slice(&state, true, FRESH, 1), Some(last.clone()));
    done(&mut state, last, None, 1);
    assert_eq!(state.backlog, None);
    assert_eq!(
        state.complete_until,
        Some(at(0)),
        "what came since is the token's"
    );
}

#[test]
fn a_feed_without_history_goes_on_from_its_token() {
    let mut state = StreamState::default();
    let pace = Pace {
        history: Duration::ZERO,
        passes: Passes::None,
        rewrite: REWRITE,
        ..pace()
    };
    let change = Transition::Slice {
        slice: Slice::Latest,
        token: Some("first".to_owned()),
        began: at(0),
    };
    state.apply(&change, &pace);
    assert_eq!((state.backlog, state.complete_until), (None, Some(at(0))));
    let next = state.next(true, &pace, FRESH, at(1)).unwrap();
    assert_eq!(next.slice, token("first"));
}

#[test]
fn a_token_slice_without_a_next_token_is_read_again() {
    let mut state = running_feed(0);
    done(&mut state, token("second"), None, 60);
    assert_eq!(slice(&state, true, FRESH, 120), Some(token("second")));
    assert_eq!(state.complete_until, Some(at(60)));
}

#[test]
fn a_windowed_stream_begins_with_its_history_and_never_asks_for_anything_before_it() {
    let mut state = StreamState::default();
    let first = Slice::Window(window(-DAY, 0));
    assert_eq!(slice(&state, false, FRESH, 0), Some(first.clone()));
    done(&mut state, first, None, 0);
    assert_eq!(state.history_start, Some(at(-DAY)));
    assert_eq!(slice(&state, false, WINDOW_READ, 0), None);
    assert_eq!(
        slice(&state, false, WINDOW_READ, 60),
        Some(Slice::Window(window(0, 60)))
    );
    assert_eq!(
        slice(&state, false, FRESH, 60),
        Some(Slice::Window(window(-DAY, 60)))
    );
}

#[test]
fn a_windowed_stream_begins_even_without_history() {
    let pace = Pace {
        history: Duration::ZERO,
        passes: Passes::None,
        rewrite: REWRITE,
        delay: seconds(30),
        ..pace()
    };
    let first = StreamState::default().next(false, &pace, FRESH, at(60));
    assert_eq!(first.unwrap().slice, Slice::Window(window(29, 30)));
}

#[test]
fn only_the_first_window_of_a_run_looks_back() {
    let state = StreamState {
        position: Some(Position::Time(at(0))),
        history_start: Some(at(-10 * DAY)),
        complete_until: Some(at(0)),
        looked_back: Some(at(0)),
        ..StreamState::default()
    };
    assert_eq!(
        slice(&state, false, FRESH, HOUR),
        Some(Slice::Window(window(-3 * DAY, HOUR)))
    );
    assert_eq!(
        slice(&state, false, WINDOW_READ, HOUR),
        Some(Slice::Window(window(0, HOUR)))
    );
    assert_eq!(
        slice(&state, false, FRESH, 9 * DAY),
        Some(Slice::Window(window(-3 * DAY, DAY)))
    );
}

#[test]
fn the_next_lookback_begins_where_the_last_one_was_made() {
    let mut state = StreamState {
        position: Some(Position::Time(at(0))),
        history_start: Some(at(-10 * DAY)),
        complete_until: Some(at(0)),
        ..StreamState::default()
    };
    // The window was first asked for at 100 and cut off; the rest of it was read at HOUR.
    done(&mut state, Slice::Window(window(-3 * DAY, 100)), None, 100);
    done(&mut state, Slice::Window(window(100, HOUR)), None, HOUR);
    assert_eq!(state.position, Some(Position::Time(at(HOUR))));
    assert_eq!(state.complete_until, Some(at(100)));
    assert_eq!(
        slice(&state, false, FRESH, HOUR + 60),
        Some(Slice::Window(window(100 - 3 * DAY, HOUR + 60))),
        "what came at 101, three days late, is not behind the next lookback"
    );
}

#[test]
fn a_time_cursor_never_goes_back() {
    let mut state = StreamState {
        position: Some(Position::Time(at(100))),
        complete_until: Some(at(100)),
        ..StreamState::default()
    };
    done(&mut state, Slice::Window(window(0, 50)), None, 100);
    assert_eq!(state.position, Some(Position::Time(at(100))));
    assert_eq!(slice(&state, false, FRESH, 90), None, "the clock went back");
}

#[test]
fn a_slice_that_was_cut_off_goes_on_as_it_was_asked_for() {
    let mut state = StreamState::default();
    let page = |next: &str| Transition::Page {
        slice: Slice::Window(window(-DAY, 0)),
        next: Page::Token(next.to_owned()),
        began: at(0),
    };
    state.apply(&page("p1"), &pace());
    state.apply(&page("p2"), &pace());
    let open = state.next(false, &pace(), FRESH, at(5 * HOUR)).unwrap();
    assert_eq!(
        open,
        OpenSlice {
            slice: Slice::Window(window(-DAY, 0)),
            page: Page::Token("p2".to_owned()),
            began: at(0),
        }
    );
    assert_eq!((state.position.clone(), state.complete_until), (None, None));

    state.apply(&Transition::PageRefused, &pace());
    let again = state.next(false, &pace(), FRESH, at(5 * HOUR)).unwrap();
    assert_eq!(again.page, Page::First);
    let Slice::Window(again) = again.slice else {
        panic!("a window");
    };
    assert_eq!(again.from, at(-DAY), "what was promised is not cut short");
    assert_eq!(again.to, at(0));
}

#[test]
fn a_stream_that_is_off_and_comes_back_goes_on_where_it_was() {
    let mut state = StreamState {
        position: Some(Position::Time(at(0))),
        complete_until: Some(at(0)),
        history_start: Some(at(-DAY)),
        ..StreamState::default()
    };
    state.apply(&off(60), &pace());
    state.apply(&off(120), &pace());
    assert_eq!(state.off, Some(at(60)), "since when");
    let next = Slice::Window(window(-DAY, HOUR));
    assert_eq!(slice(&state, false, FRESH, HOUR), Some(next.clone()));
    done(&mut state, next, None, HOUR);
    assert_eq!(state.off, None);
}

#[test]
fn a_stream_that_lost_its_feed_with_an_update_goes_on_by_window() {
    let state = running_feed(10 * DAY);
    assert_eq!(
        slice(&state, false, FRESH, 10 * DAY + 60),
        Some(Slice::Window(Window {
            from: state.history_start.unwrap(),
            to: at(10 * DAY + 60)
        }))
    );
}

#[test]
fn a_list_by_update_time_is_swept_once_a_day_from_where_the_last_sweep_could_see() {
    let pace = Pace {
        lookback: seconds(900),
        sweep: seconds(3 * DAY),
        ..pace()
    };
    let mut state = StreamState {
        position: Some(Position::Time(at(0))),
        complete_until: Some(at(0)),
        history_start: Some(at(-30 * DAY)),
        looked_back: Some(at(0)),
        ..StreamState::default()
    };
    let mut froms = Vec::new();
    for hour in 1..=50 {
        let now = hour * HOUR;
        let open = state.next(false, &pace, FRESH, at(now)).unwrap();
        let slice = open.slice.clone();
        let from = slice.window().unwrap().from;
        if from < at(now - 2 * HOUR) {
            froms.push((hour, (at(now) - from).num_hours()));
        }
        let change = Transition::Slice {
            slice,
            token: None,
            began: at(now),
        };
        state.apply(&change, &pace);
    }
    // An hour since the cursor; then a day since the last sweep as well.
    assert_eq!(froms, [(1, 73), (25, 97), (49, 97)]);
    let quiet = Pace {
        sweep: Duration::ZERO,
        ..pace
    };
    let open = state.next(false, &quiet, FRESH, at(90 * HOUR)).unwrap();
    assert_eq!(open.slice.window().unwrap().from, at(50 * HOUR - 900));
}

#[test]
fn a_gap_of_a_pass_is_one_and_is_closed_by_a_whole_pass() {
    let mut state = StreamState {
        last_pass: Some(at(0)),
        ..StreamState::default()
    };
    let other = Gap {
        from: at(0),
        to: at(1),
        why: "another".to_owned(),
    };
    state.add_gap(other.clone());
    for day in 1..=2 {
        let missed = Transition::PassMissed {
            missed: 250,
            there: 450,
            began: at(day * DAY),
        };
        state.apply(&missed, &pace());
    }
    assert_eq!(state.doubted, Some(at(DAY)), "since the first");
    assert_eq!(state.gaps.len(), 2, "{:?}", state.gaps);
    assert_eq!((state.gaps[1].from, state.gaps[1].to), (at(0), at(2 * DAY)));
    state.apply(&Transition::PassWhole, &pace());
    assert_eq!((state.doubted, state.gaps), (None, vec![other]));
}

#[test]
fn the_list_of_gaps_is_capped_and_the_newest_stay() {
    let mut state = StreamState::default();
    for number in 0..60 {
        state.add_gap(Gap {
            from: at(number),
            to: at(number + 1),
            why: String::new(),
        });
    }
    assert_eq!(state.gaps.len(), MAX_GAPS);
    assert_eq!(state.gaps.first().unwrap().from, at(10));
    assert_eq!(state.gaps.last().unwrap().from, at(59));
}

#[test]
fn a_lease_is_held_until_it_ends() {
    let mut state = StreamState::default();
    assert_eq!(state.take_lease("a", at(100), at(0)), Ok(()));
    let held = state.take_lease("b", at(200), at(99)).unwrap_err();
    assert_eq!((held.owner.as_str(), held.until), ("a", at(100)));
    assert_eq!(state.take_lease("a", at(150), at(99)), Ok(()), "its own");
    assert_eq!(state.take_lease("b", at(300), at(150)), Ok(()), "it ended");
    assert_eq!(state.lease.unwrap().owner, "b");
}

#[test]
fn a_lease_that_ends_later_than_any_run_holds_nobody_back() {
    let mut state = StreamState::default();
    let now = at(0);
    state.take_lease("fast", now + Lease::LONGEST, now).unwrap();
    assert!(state.take_lease("right", at(200), now).is_err());
    let days = now + TimeDelta::days(2);
    state
        .take_lease("fast", days, days - TimeDelta::minutes(5))
        .unwrap();
    assert_eq!(state.take_lease("right", at(200), now), Ok(()));
    assert_eq!(state.lease.unwrap().owner, "right");
}

#[test]
fn a_stream_rests_between_runs_unless_the_clock_was_wrong() {
    let state = StreamState {
        finished: Some(at(0)),
        ..StreamState::default()
    };
    let fresh = |now: i64| state.is_fresh(seconds(300), at(now));
    assert!(fresh(0) && fresh(269));
    assert!(!fresh(270), "timers fire a little early");
    assert!(fresh(-10), "clocks of two instances differ a little");
    assert!(
        !fresh(-300),
        "a run that ended in the future proves nothing"
    );
    assert!(!StreamState::default().is_fresh(seconds(300), at(0)));
}

#[test]
fn a_state_is_read_back_as_it_was_written() {
    let mut state = running_feed(10 * DAY);
    refuse(&mut state, 10 * DAY + 60);
    let page = Transition::Page {
        slice: Slice::Latest,
        next: Page::Token("p".to_owned()),
        began: at(10 * DAY + 60),
    };
    state.apply(&page, &pace());
    state.apply(&off(1), &pace());
    state.take_lease("a", at(100), at(0)).unwrap();
    state.no_feed = Some(at(2));
    state.looked_back = Some(at(3));
    state.finished = Some(at(4));
    state.last_turn = Some(at(9));
    state.error = Some("why".to_owned());
    state.behind = true;
    state.last_pass = Some(at(5));
    state.rewritten = Some(at(6));
    state.basis = Some(Basis::Event);
    state.full_lookback_at = Some(at(7));
    state.basis_checked_at = Some(at(8));
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<StreamState>(&text).unwrap(), state);

    let first = serde_json::to_string(&StreamState::default()).unwrap();
    assert_eq!(first, r#"{"version":1}"#);
    assert_eq!(
        serde_json::from_str::<StreamState>(&first).unwrap(),
        StreamState::default()
    );
}

/// A table that is read by the time of the event, from three days ago on, and its first window.
fn by_event(now: i64) -> StreamState {
    let mut state = StreamState {
        history_start: Some(at(0)),
        position: Some(Position::Time(at(now))),
        complete_until: Some(at(now)),
        ..StreamState::default()
    };
    let (basis, at) = (Basis::Event, at(now));
    state.apply(&Transition::Basis { basis, at }, &pace());
    state
}

/// The window of a run, which is read.
fn read_window(state: &mut StreamState, now: i64) -> Window {
    let Some(slice) = slice(state, false, FRESH, now) else {
        panic!("nothing to read at {now}");
    };
    let window = slice.window().unwrap();
    done(state, slice, None, now);
    window
}

/// A row that came a moment after a sweep may be as late as the lookback; the next sweep is a day
/// away.
#[test]
fn a_sweep_begins_as_far_back_as_the_last_one_could_see() {
    let start = 10 * DAY;
    let mut state = by_event(start);
    assert_eq!(
        read_window(&mut state, start + 60).from,
        at(start - 3 * DAY)
    );
    let mut now = start + 60;
    while now + HOUR < start + DAY + 60 {
        now += HOUR;
        let from = read_window(&mut state, now).from;
        assert_eq!(from, at(now - 3 * HOUR), "two hours before the last run");
    }
    let sweep = read_window(&mut state, start + DAY + 60);
    assert!(sweep.from <= at(start + 60 - 3 * DAY), "{sweep:?}");
    // A sweep is one window, and not the next one, too.
    let from = read_window(&mut state, start + DAY + 120).from;
    assert_eq!(from, at(start + DAY + 60 - 2 * HOUR));
}

#[test]
fn a_table_that_loses_or_gains_a_time_is_read_again_where_the_other_one_was_blind() {
    let start = 10 * DAY;
    let mut state = by_event(start);
    assert!(!state.basis_is_due(at(start + HOUR)));
    read_window(&mut state, start + 60);
    read_window(&mut state, start + 20 * HOUR);
    let now = start + DAY;
    assert!(state.basis_is_due(at(now)));
    let gained = Transition::Basis {
        basis: Basis::Ingestion,
        at: at(now),
    };
    state.apply(&gained, &pace());
    // What came since the sweep may be dated long ago.
    let window = read_window(&mut state, now);
    assert!(window.from <= at(start + 60), "{window:?}");
    while state.position != Some(Position::Time(at(now))) {
        read_window(&mut state, now);
    }
    // The same answer changes nothing.
    let before = state.position.clone();
    state.apply(&gained, &pace());
    assert_eq!(state.position, before);
    let lost = Transition::Basis {
        basis: Basis::Event,
        at: at(now + DAY),
    };
    state.apply(&lost, &pace());
    // The last answer is a day old, and rows may be three days late.
    let window = read_window(&mut state, now + DAY);
    assert!(window.from <= at(now - 3 * DAY), "{window:?}");
}

/// Changes that the source keeps for 13 days, of which a bucket is read again.
fn changes() -> Pace {
    Pace {
        lookback: seconds(6 * HOUR),
        step: seconds(20 * DAY),
        passes: Passes::Behind(seconds(13 * DAY)),
        ..pace()
    }
}

#[test]
fn a_cursor_that_changes_do_not_reach_back_to_costs_a_new_baseline_and_a_gap() {
    let pace = changes();
    let due = |state: &StreamState, now| state.next(false, &pace, FRESH, at(now));
    let due = |state: &StreamState, now| due(state, now).map(|open| open.slice);
    // An export is written before it is asked for.
    let exported = |state: &mut StreamState, now| {
        let change = Transition::Slice {
            slice: Slice::Pass,
            token: Some(at(now - HOUR).to_rfc3339()),
            began: at(now),
        };
        state.apply(&change, &pace);
        assert_eq!(state.position, Some(Position::Time(at(now - HOUR))));
        assert_eq!(state.complete_until, Some(at(now)));
    };
    let mut state = StreamState::default();
    assert_eq!(due(&state, 0), Some(Slice::Pass));
    exported(&mut state, 0);
    assert_eq!(state.gaps, []);

    // As long as they are kept, changes follow it.
    let kept = 13 * DAY - HOUR;
    let after = |from, to| Some(Slice::Window(window(from, to)));
    assert_eq!(due(&state, kept), after(-7 * HOUR, kept));
    let late = kept + 1;
    assert_eq!(due(&state, late), Some(Slice::Pass));
    exported(&mut state, late);
    let [gap] = state.gaps.as_slice() else {
        panic!("one gap: {:?}", state.gaps);
    };
    assert_eq!((gap.from, gap.to), (at(-HOUR), at(late)));
    insta::assert_snapshot!(gap.why, @"the cursor was older than the source keeps changes; everything was read again as it is now, and what came and went in between is missing");
    assert_eq!(
        due(&state, late + HOUR),
        after(late - 7 * HOUR, late + HOUR)
    );
}

#[test]
fn an_export_that_does_not_say_of_when_it_is_may_be_half_a_day_old() {
    let pace = changes();
    let mut state = StreamState::default();
    let change = Transition::Slice {
        slice: Slice::Pass,
        token: None,
        began: at(0),
    };
    state.apply(&change, &pace);
    assert_eq!(state.position, Some(Position::Time(at(-12 * HOUR))));
}

#[test]
fn a_state_of_a_newer_version_is_refused() {
    assert!(StreamState::default().checked().is_ok());
    let newer = StreamState {
        version: STATE_VERSION + 1,
        ..StreamState::default()
    };
    insta::assert_snapshot!(newer.checked().unwrap_err(), @"the saved state has schema 2, this version knows 1: deploy the version that wrote it, or a newer one");
}

proptest! {
    #[test]
    fn any_state_has_a_next_step_that_makes_sense(
        position in prop::option::of(prop_oneof![
            (-DAY..DAY).prop_map(|time| Position::Time(at(time))),
            Just(Position::Token("t".to_owned())),
        ]),
        good in prop::option::of(-DAY..DAY),
        floor in prop::option::of(-DAY..DAY),
        looked_back in prop::option::of(-DAY..DAY),
        backlog in prop::option::of((-DAY..DAY, 1..DAY)),
        has_feed in any::<bool>(),
        window_read in any::<bool>(),
        now in -2 * DAY..2 * DAY,
    ) {
        let state = StreamState {
            position,
            complete_until: good.map(at),
            history_start: floor.map(at),
            looked_back: looked_back.map(at),
            backlog: backlog.map(|(from, length)| window(from, from + length)),
            ..StreamState::default()
        };
        let steps = RunProgress { window: window_read, ..FRESH };
        if let Some(Slice::Window(window)) = slice(&state, has_feed, steps, now) {
            prop_assert!(!window.is_empty());
            if let (None, Some(Position::Time(cursor))) = (state.backlog, &state.position) {
                prop_assert!(window.from <= *cursor, "a hole behind the cursor");
            }
        }
    }
}

#[test]
fn a_window_that_begins_behind_the_cursors_reach_writes_a_gap() {
    let mut state = StreamState {
        position: Some(Position::Time(at(0))),
        history_start: Some(at(0)),
        complete_until: Some(at(0)),
        ..StreamState::default()
    };
    let read = |from, to| Transition::Slice {
        slice: Slice::Window(window(from, to)),
        token: None,
        began: at(to),
    };
    // What touches the cursor, or reaches back behind it, leaves nothing out.
    state.apply(&read(0, HOUR), &pace());
    state.apply(&read(0, 2 * HOUR), &pace());
    assert_eq!(state.gaps, []);
    state.apply(&read(5 * HOUR, 6 * HOUR), &pace());
    let [gap] = &state.gaps[..] else {
        panic!("one gap: {:?}", state.gaps)
    };
    assert_eq!((gap.from, gap.to), (at(2 * HOUR), at(5 * HOUR)));
    assert_eq!(state.position, Some(Position::Time(at(6 * HOUR))));
}

fn draw_back(state: &mut StreamState, now: i64) {
    state.apply(&Transition::DrawnBack { now: at(now) }, &pace());
}

#[test]
fn a_cursor_in_the_future_is_drawn_back_with_a_gap_and_asks_again() {
    for basis in [None, Some(Basis::Event), Some(Basis::Ingestion)] {
        let mut state = StreamState {
            position: Some(Position::Time(at(52 * DAY))),
            complete_until: Some(at(52 * DAY)),
            looked_back: Some(at(52 * DAY)),
            history_start: Some(at(0)),
            basis,
            ..StreamState::default()
        };
        let now = 50 * DAY;
        assert!(state.stands_ahead(&pace(), at(now)));
        assert_eq!(slice(&state, false, FRESH, now), None, "nothing was asked");
        draw_back(&mut state, now);
        assert!(!state.lies_ahead(&pace(), at(now)));
        assert_eq!(state.gaps.len(), 1);
        let next = slice(&state, false, FRESH, now).unwrap().window().unwrap();
        assert!(next.from <= at(now - 7 * DAY), "{next:?}");
    }
}

#[test]
fn a_first_run_in_the_future_is_begun_again() {
    let mut state = StreamState {
        position: Some(Position::Time(at(60 * DAY))),
        complete_until: Some(at(60 * DAY)),
        history_start: Some(at(59 * DAY)),
        ..StreamState::default()
    };
    draw_back(&mut state, 50 * DAY);
    assert_eq!(state.position, Some(Position::Time(at(49 * DAY))));
    assert_eq!(state.history_start, Some(at(49 * DAY)));
}

#[test]
fn a_pass_of_the_future_is_due() {
    let pace = Pace {
        passes: Passes::Only(seconds(DAY)),
        ..pace()
    };
    let state = StreamState {
        last_pass: Some(at(3 * DAY)),
        ..StreamState::default()
    };
    let next = state.next(false, &pace, FRESH, at(DAY));
    assert_eq!(next.map(|open| open.slice), Some(Slice::Pass));
}

#[test]
fn what_does_not_stand_in_the_future_stays_as_it_is() {
    let state = StreamState {
        position: Some(Position::Time(at(DAY))),
        complete_until: Some(at(DAY)),
        history_start: Some(at(0)),
        ..StreamState::default()
    };
    assert!(!state.lies_ahead(&pace(), at(DAY)));
}
