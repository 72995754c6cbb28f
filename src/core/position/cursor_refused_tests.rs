//! Tokens that are refused, feeds that go away, and windows that are not offered.

use super::*;

#[test]
fn a_refused_token_is_a_gap_and_what_it_stood_for_is_read_again() {
    let mut state = running_feed(10 * DAY);
    refuse(&mut state, 10 * DAY + 60);
    assert_eq!(state.position, None);
    let gap = Gap {
        from: at(10 * DAY),
        to: at(10 * DAY + 60),
        why: "the source refused the delta token (answered 400); records that occurred since \
              2026-01-09 23:59 UTC are read again by window, older ones that were reported in this \
              time may be missing"
            .to_owned(),
    };
    assert_eq!(state.gaps, [gap]);
    assert_eq!(
        slice(&state, true, FRESH, 10 * DAY + 90),
        Some(Slice::Latest)
    );

    // The new token comes an hour later: until then nothing stood for late records.
    let later = 10 * DAY + HOUR;
    done(&mut state, Slice::Latest, Some("third"), later);
    assert_eq!(state.gaps[0].to, at(later));
    assert_eq!(
        state.backlog,
        Some(window(9 * DAY - 60, later)),
        "to the floor"
    );
    assert_eq!(
        state.complete_until,
        Some(at(10 * DAY)),
        "until the backlog is read"
    );
}

#[test]
fn a_resync_looks_back_from_the_last_good_time() {
    let mut state = running_feed(10 * DAY);
    state.history_start = Some(at(0));
    refuse(&mut state, 12 * DAY);
    done(&mut state, Slice::Latest, Some("third"), 12 * DAY);
    assert_eq!(state.backlog, Some(window(7 * DAY, 12 * DAY)));
    assert_eq!(
        (state.gaps[0].from, state.gaps[0].to),
        (at(10 * DAY), at(12 * DAY))
    );
}

#[test]
fn a_token_that_carried_nothing_leaves_no_gap_and_its_history_is_read_on() {
    let mut state = StreamState::default();
    done(&mut state, Slice::Latest, Some("first"), 0);
    let rest = window(-HOUR, 0);
    state.backlog = Some(rest);
    refuse(&mut state, 60);
    assert!(state.gaps.is_empty());
    assert_eq!(state.backlog, Some(rest));

    let last = Slice::Window(window(-HOUR, SKEW));
    assert_eq!(slice(&state, true, FRESH, 60), Some(last.clone()));
    done(&mut state, last, None, 60);
    assert_eq!(slice(&state, true, WINDOW_READ, 61), Some(Slice::Latest));
    done(&mut state, Slice::Latest, Some("second"), 61);
    assert_eq!(
        state.backlog,
        Some(window(-DAY, 61)),
        "to the floor, not to the lookback"
    );
}

#[test]
fn a_token_refused_while_a_later_backlog_is_unfinished_loses_none_of_it() {
    let mut state = running_feed(10 * DAY);
    state.history_start = Some(at(0));
    refuse(&mut state, 12 * DAY);
    done(&mut state, Slice::Latest, Some("third"), 12 * DAY);
    done(
        &mut state,
        Slice::Window(window(7 * DAY, 8 * DAY)),
        None,
        12 * DAY,
    );
    refuse(&mut state, 20 * DAY);
    assert_eq!(state.backlog, Some(window(8 * DAY, 12 * DAY)));
    assert_eq!(state.complete_until, Some(at(10 * DAY)));
    while let Some(Slice::Window(part)) = slice(&state, true, FRESH, 20 * DAY) {
        done(&mut state, Slice::Window(part), None, 20 * DAY);
    }
    assert_eq!(state.complete_until, Some(at(12 * DAY)));
    done(&mut state, Slice::Latest, Some("fourth"), 20 * DAY);
    assert_eq!(state.backlog, Some(window(9 * DAY, 20 * DAY)));
    let gap = state.gaps.last().unwrap();
    assert_eq!((gap.from, gap.to), (at(10 * DAY), at(20 * DAY)));
}

#[test]
fn a_source_that_refuses_every_token_makes_one_gap() {
    let mut state = running_feed(10 * DAY);
    for minute in 1..100 {
        let now = 10 * DAY + minute * 60;
        refuse(&mut state, now);
        done(&mut state, Slice::Latest, Some("new"), now);
        while let Some(Slice::Window(part)) = slice(&state, true, FRESH, now) {
            done(&mut state, Slice::Window(part), None, now);
        }
    }
    let gaps: Vec<_> = state.gaps.iter().map(|gap| (gap.from, gap.to)).collect();
    assert_eq!(gaps, [(at(10 * DAY), at(10 * DAY + 99 * 60))]);
}

#[test]
fn without_a_feed_windows_are_read_and_the_feed_is_asked_for_a_day_later() {
    let mut state = StreamState::default();
    missing(&mut state, 0);
    assert_eq!(state.position, Some(Position::Time(at(-DAY))));
    let first = Slice::Window(window(-DAY, 0));
    assert_eq!(slice(&state, true, FRESH, 0), Some(first.clone()));
    done(&mut state, first, None, 0);
    assert!(state.gaps.is_empty(), "no token ever stood for anything");
    assert!(matches!(
        slice(&state, true, FRESH, DAY - 1),
        Some(Slice::Window(_))
    ));
    assert_eq!(slice(&state, true, FRESH, DAY), Some(Slice::Latest));

    missing(&mut state, DAY);
    assert_eq!(state.position, Some(Position::Time(at(0))), "it stays");
    assert!(matches!(
        slice(&state, true, FRESH, DAY + 60),
        Some(Slice::Window(_))
    ));

    done(&mut state, Slice::Latest, Some("first"), 2 * DAY);
    assert_eq!(state.position, Some(Position::Token("first".to_owned())));
    assert_eq!(
        state.backlog,
        Some(window(-DAY, 2 * DAY)),
        "with the lookback, but not from before the floor"
    );
    assert_eq!(state.no_feed, None);
}

#[test]
fn a_feed_that_goes_away_leaves_a_gap_for_what_windows_cannot_find() {
    let mut state = running_feed(10 * DAY);
    state.history_start = Some(at(0));
    missing(&mut state, 11 * DAY);
    let gap = &state.gaps[0];
    assert_eq!((gap.from, gap.to), (at(10 * DAY), at(11 * DAY)));
    // Also when windows of a backlog were read in the same run.
    for steps in [FRESH, WINDOW_READ] {
        assert_eq!(
            slice(&state, true, steps, 11 * DAY),
            Some(Slice::Window(window(7 * DAY, 11 * DAY)))
        );
    }
}

#[test]
fn a_feed_whose_windows_are_not_offered_goes_on_and_keeps_its_backlog() {
    let feed_first = RunProgress {
        feed_first: true,
        ..FRESH
    };
    let mut state = StreamState::default();
    done(&mut state, Slice::Latest, Some("t1"), 0);
    let backlog = state.backlog;
    assert_eq!(backlog, Some(window(-DAY, 0)));
    assert_eq!(slice(&state, true, feed_first, 60), Some(token("t1")));
    done(&mut state, token("t1"), Some("t2"), 60);
    assert_eq!((state.backlog, state.complete_until), (backlog, None));
    // The next run asks for the windows again.
    let asked = slice(&state, true, FRESH, 120);
    assert_eq!(asked, Some(Slice::Window(window(-DAY, SKEW))));

    // A new token is no reason to forget what an old one left.
    let mut renewed = state.clone();
    refuse(&mut renewed, 10 * DAY);
    done(&mut renewed, Slice::Latest, Some("t3"), 10 * DAY);
    assert_eq!(renewed.backlog, Some(window(-DAY, 10 * DAY)));

    // Windows go on where the backlog ends, when the feed goes away as well.
    missing(&mut state, 5 * DAY);
    assert_eq!(state.position, Some(Position::Time(at(0))));
    assert_eq!((state.gaps[0].from, state.gaps[0].to), (at(0), at(5 * DAY)));
}
