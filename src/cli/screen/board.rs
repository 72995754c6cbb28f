//! The board: a line for each stream, while runs go on.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Screen, TICK, complain, described, line};
use crate::{
    app::Progress,
    core::{count::counted, position::cursor::StreamKey},
    io::clock::SharedClock,
    pipeline::{Outcome, Report},
    status::span,
};

/// How long a stream is watched before its rate means something.
const SETTLED: Duration = Duration::from_secs(2);

/// One line per stream: it moves on a terminal, and is printed once elsewhere.
#[derive(Clone)]
pub(in crate::cli) struct Board {
    screen: Screen,
    all: MultiProgress,
    bars: Arc<Mutex<BTreeMap<StreamKey, StreamBar>>>,
    moves: bool,
    clock: SharedClock,
}

/// The line of a stream that is worked on.
struct StreamBar {
    bar: ProgressBar,
    /// How much time was to be read when that was told first.
    unread: Option<TimeDelta>,
}

impl Board {
    pub(in crate::cli) fn new(screen: Screen, clock: &SharedClock) -> Self {
        Self {
            screen,
            all: MultiProgress::new(),
            bars: Arc::default(),
            moves: std::io::stderr().is_terminal(),
            clock: Arc::clone(clock),
        }
    }

    /// Shows each step.
    pub(in crate::cli) fn progress(&self) -> Progress {
        if self.screen.is_quiet() {
            return Arc::new(|_| {});
        }
        let board = self.clone();
        Arc::new(move |report| board.show(report))
    }

    fn show(&self, report: &Report) {
        let ended = report.outcome != Outcome::Running;
        if !self.moves {
            if !ended {
            } else if self.screen.is_for_people() {
                line(described(report));
            } else {
                // What a script reads stays whole.
                complain(&described(report));
            }
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if ended {
            if let Some(StreamBar { bar, .. }) = bars.remove(&report.key) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            // Above those that move, and whole: a line that moves is cut where the terminal ends.
            drop(self.all.println(described(report)));
            return;
        }
        let line = bars.entry(report.key.clone()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            StreamBar { bar, unread: None }
        });
        let took = (self.clock.now() - report.began)
            .to_std()
            .unwrap_or_default();
        line.unread = line.unread.or(report.unread);
        let pace = pace(report, took, line.unread);
        line.bar.set_message(format!("{}{pace}", described(report)));
    }
}

/// Records a second, and how long it takes until the stream is up to date, where that can be told: from
/// how much of the time that was to be read has been.
fn pace(report: &Report, took: Duration, first: Option<TimeDelta>) -> String {
    if took < SETTLED {
        return String::new();
    }
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = report.counts.pulled.saturating_mul(1000) / milliseconds;
    let rate = counted(rate, "record");
    let left = first.zip(report.unread).and_then(|(first, unread)| {
        let done = u64::try_from((first - unread).num_seconds()).ok();
        let done = done.filter(|done| *done > 0)?;
        let left = u64::try_from(unread.num_seconds()).ok()?;
        let milliseconds = u128::from(milliseconds) * u128::from(left) / u128::from(done);
        i64::try_from(milliseconds / 1000).ok()
    });
    match left {
        Some(left) => format!("  {rate} a second, about {} left", span(left)),
        None => format!("  {rate} a second"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_rate_comes_after_a_while_and_the_time_left_once_some_of_it_has_been_read() {
        let mut report = Report::new(StreamKey::new("default", "a.b"), DateTime::UNIX_EPOCH);
        report.counts.pulled = 5_000;
        let told =
            |report: &Report, seconds, behind| pace(report, Duration::from_secs(seconds), behind);
        assert_eq!(told(&report, 1, None), "");
        assert_eq!(told(&report, 5, None), "  1,000 records a second");
        let day = Some(TimeDelta::days(1));
        report.unread = day;
        assert_eq!(told(&report, 5, day), "  1,000 records a second");
        report.unread = Some(TimeDelta::hours(18));
        assert_eq!(
            told(&report, 5, day),
            "  1,000 records a second, about 15s left"
        );
    }
}
