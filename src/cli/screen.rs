//! What a person sees: lines, progress, tables.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    app::Progress,
    check::volume::Estimate,
    core::position::cursor::StreamKey,
    error::{Error, Kind, Result},
    pipeline::{Outcome, Report},
    status::span,
};

/// Prints a line. A reader that has gone away is no error of ours.
pub(super) fn line(text: impl Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Prints a line to stderr.
pub(super) fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Says what ended the program, and who must act.
pub(super) fn error(error: &Error) {
    complain(&format!("{}: {error}", whose(error.kind())));
}

/// Who must act, in front of an error.
fn whose(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "error",
        Kind::Transient => "error (it may pass by itself)",
        Kind::Contract => "error (if no proxy answers in the service's place, update this program)",
    }
}

/// One line per stream: it moves on a terminal, and is printed once elsewhere.
#[derive(Clone)]
pub(super) struct Board {
    all: MultiProgress,
    bars: Arc<Mutex<BTreeMap<StreamKey, ProgressBar>>>,
    moves: bool,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            bars: Arc::default(),
            moves: std::io::stderr().is_terminal(),
        }
    }

    /// Shows each step.
    pub(super) fn progress(&self) -> Progress {
        let board = self.clone();
        Arc::new(move |report| board.show(report))
    }

    fn show(&self, report: &Report) {
        let text = described(report);
        let ended = report.outcome != Outcome::Running;
        if !self.moves {
            if ended {
                line(text);
            }
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(report.key.clone()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text);
        if ended && let Some(bar) = bars.remove(&report.key) {
            bar.finish();
        }
    }
}

/// Prints how a run ended.
pub(super) fn report(report: &Report) {
    line(described(report));
}

/// `eset.detections        2 pages     1,243 rows   in 3.1 s   up to date`.
fn described(report: &Report) -> String {
    let counts = &report.counts;
    let state = match report.outcome {
        Outcome::Running => "…".to_owned(),
        Outcome::UpToDate if counts.waiting > 0 => {
            format!("all is read in {:.1} s", report.seconds)
        }
        Outcome::UpToDate => format!("up to date in {:.1} s", report.seconds),
        Outcome::Behind => report
            .reason
            .clone()
            .unwrap_or_else(|| "time is up; the next run goes on".to_owned()),
        Outcome::NotDue => "not due yet".to_owned(),
        Outcome::Busy => reason("left to another run", report),
        Outcome::Paused => "paused; `cursor resume` ends that".to_owned(),
        Outcome::Off => "not offered by this tenant".to_owned(),
        Outcome::Failed => reason("failed", report),
    };
    let waits = match (counts.waiting, &report.waits_for) {
        (0, _) => String::new(),
        (rows, why) => format!(
            "; {} rows wait in the outbox: {}",
            HumanCount(rows),
            why.as_deref().unwrap_or("the sink takes nothing")
        ),
    };
    format!(
        "{:<36} {:>6} pages {:>9} rows   {state}{waits}",
        named(&report.key),
        HumanCount(report.pages).to_string(),
        HumanCount(counts.landed).to_string(),
    )
}

fn reason(what: &str, report: &Report) -> String {
    match &report.reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}

/// A stream's name, with that of its connection when there may be several.
pub(super) fn named(key: &StreamKey) -> String {
    if key.connection == crate::config::DEFAULT_CONNECTION {
        key.stream.clone()
    } else {
        key.to_string()
    }
}

/// What runs did, as a table.
pub(super) fn summary(reports: &[Report]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "stream",
        "pages",
        "rows",
        "waiting",
        "duplicates dropped",
        "rejected",
        "bytes",
        "lag",
    ]);
    for report in reports {
        let counts = &report.counts;
        table.add_row([
            named(&report.key),
            HumanCount(report.pages).to_string(),
            HumanCount(counts.landed).to_string(),
            HumanCount(counts.waiting).to_string(),
            HumanCount(counts.duplicate).to_string(),
            HumanCount(counts.dead).to_string(),
            HumanBytes(report.bytes).to_string(),
            report.lag_seconds.map_or("-".to_owned(), span),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// How an estimate was made, and what it would be without the stream's filter.
fn estimated_from(estimate: &Estimate) -> String {
    let how = estimate.how.clone();
    estimate.unfiltered.map_or(how.clone(), |(rows, bytes)| {
        format!(
            "{how}; without the filter {} rows and {} a day",
            HumanCount(rows),
            HumanBytes(bytes)
        )
    })
}

/// How much streams will bring, as a table.
pub(super) fn estimates(all: &[(StreamKey, Result<Estimate>)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "stream",
        "first run",
        "rows a day",
        "bytes a day",
        "estimated from",
    ]);
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    for (key, found) in all {
        match found {
            Ok(estimate) => {
                rows = rows.saturating_add(estimate.rows);
                bytes = bytes.saturating_add(estimate.bytes);
                let first = estimate.at_first.map(|first| HumanCount(first).to_string());
                table.add_row([
                    named(key),
                    first.unwrap_or_default(),
                    HumanCount(estimate.rows).to_string(),
                    HumanBytes(estimate.bytes).to_string(),
                    estimated_from(estimate),
                ]);
            }
            Err(error) => {
                let nothing = String::new;
                table.add_row([
                    named(key),
                    nothing(),
                    nothing(),
                    nothing(),
                    error.to_string(),
                ]);
            }
        }
    }
    let month = u128::from(bytes) * 30;
    let gigabytes = month / 1_000_000_000;
    let hundredths = month / 10_000_000 % 100;
    table.add_row([
        "all of these".to_owned(),
        String::new(),
        HumanCount(rows).to_string(),
        HumanBytes(bytes).to_string(),
        format!("{gigabytes}.{hundredths:02} GB in 30 days"),
    ]);
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Rows of an answer, as a table.
pub(super) fn rows(columns: &[String], rows: Vec<Vec<Option<String>>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(columns);
    for row in rows {
        table.add_row(row.into_iter().map(Option::unwrap_or_default));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_act_is_never_told_to_report_what_a_service_does() {
        for kind in [Kind::Config, Kind::Transient, Kind::Contract] {
            assert!(!whose(kind).contains("report"), "{kind}");
        }
        assert!(whose(Kind::Contract).contains("update"));
    }
}
