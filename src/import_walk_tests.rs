//! What a run reads after an import.

use super::*;
use crate::core::position::{
    cursor::{OpenSlice, Position, RunProgress, Slice, Transition},
    window::{Pace, Passes, REWRITE, Window},
};

fn pace() -> Pace {
    Pace {
        every: Duration::ZERO,
        delay: Duration::ZERO,
        lookback: LOOKBACK,
        sweep: Duration::ZERO,
        step: Duration::from_hours(24),
        history: Duration::from_hours(24),
        passes: Passes::None,
        rewrite: REWRITE,
    }
}

/// The steps of one run, each answered at once.
fn walk(state: &mut StreamState, has_feed: bool) -> Vec<Slice> {
    let (mut steps, mut walked) = (RunProgress::default(), Vec::new());
    while let Some(OpenSlice { slice, began, .. }) = state.next(has_feed, &pace(), steps, at(NOW)) {
        let token = (!matches!(slice, Slice::Window(_))).then(|| "t".to_owned());
        steps.window |= matches!(slice, Slice::Window(_));
        steps.feed |= matches!(slice, Slice::Token(_));
        let done = Transition::Slice {
            slice: slice.clone(),
            token,
            began,
        };
        state.apply(&done, &pace());
        walked.push(slice);
        assert!(walked.len() < 50, "{walked:?}");
    }
    walked
}

#[test]
fn a_feed_gives_its_token_first_and_then_all_from_the_resume_time_is_read_by_window() {
    let resume = resume("eset.detections", &[time_of("EP", "2026-03-01T22:30:01Z")]).unwrap();
    let mut state = StreamState::default();
    resume.apply(&mut state);
    assert!(has_position(&state));
    let walked = walk(&mut state, true);
    assert_eq!(walked[0], Slice::Latest);
    assert_windows(&walked[1..], resume.from);
    assert!(matches!(state.position, Some(Position::Token(_))));
    assert_eq!(state.complete_until, Some(at(NOW)));
}

#[test]
fn a_stream_without_a_feed_reads_all_from_the_resume_time_and_no_more() {
    let resume = resume(
        "eset.incidents",
        &[time_of("INCIDENTS", "2026-03-01T22:30:01Z")],
    )
    .unwrap();
    let mut state = StreamState::default();
    resume.apply(&mut state);
    let walked = walk(&mut state, false);
    assert_windows(&walked, resume.from);
}

/// Without a hole, from `from` until now, and from nothing before it.
fn assert_windows(slices: &[Slice], from: DateTime<Utc>) {
    let windows: Vec<Window> = slices
        .iter()
        .filter_map(|slice| match slice {
            Slice::Window(window) => Some(*window),
            Slice::Token(_) | Slice::Ingested(_) | Slice::Pass => None,
            Slice::Latest => panic!("a second first token"),
        })
        .collect();
    assert_eq!(windows[0].from, from);
    for pair in windows.windows(2) {
        assert!(
            pair[1].from <= pair[0].to && pair[1].from >= from,
            "{windows:?}"
        );
    }
    assert!(windows.last().unwrap().to >= at(NOW));
}

#[test]
fn an_import_over_a_position_reads_from_the_resume_time_and_keeps_pause_and_gaps() {
    let resume = resume("eset.detections", &[time_of("EP", "2026-03-01T22:30:01Z")]).unwrap();
    let mut state = StreamState {
        paused: Some(at(NOW)),
        history_start: Some(at("2020-01-01T00:00:00Z")),
        ..StreamState::default()
    };
    state.add_gap(words::gap(at(NOW), at(NOW), at(NOW)));
    walk(&mut state, true);
    resume.apply(&mut state);
    assert_eq!((state.paused, state.gaps.len()), (Some(at(NOW)), 1));
    let walked = walk(&mut state, true);
    assert_windows(&walked[1..], resume.from);
}
