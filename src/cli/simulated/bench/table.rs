//! What was measured, for a person.

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{super::screen::SheetColumn, BenchArguments, Measured, Of, milliseconds, start::Start};

/// Everything that was measured.
pub(super) struct Figures {
    of: Of,
    rows: u64,
    latency: u64,
    /// Look-ups and limits.
    settings: String,
    rounds: Vec<Round>,
    pub(super) start: Option<Start>,
}

/// Each part, measured once, one after the other: they are compared with each other alone, since a
/// machine that others use too is not as fast from one minute to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) reference: Measured,
    pub(super) pull: Option<Measured>,
    pub(super) fetch: Option<Measured>,
}

/// Figures of a bench, as a script reads them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BenchFigures {
    of: &'static str,
    rows: u64,
    latency_ms: u64,
    rounds: usize,
    pub(super) parts: Vec<BenchPart>,
    cpu_ratio: Option<Spread>,
    latency_ratio: Option<Spread>,
    complete: bool,
    first_answer_ms: Option<f64>,
    idle_bytes: Option<u64>,
}

/// Part of a bench: medians of its rounds, of memory the most.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BenchPart {
    part: &'static str,
    seconds: f64,
    cpu_seconds: f64,
    peak_bytes: u64,
    calls: u64,
    pages: u64,
    pushes: u64,
    bytes_read: u64,
    bytes_of_rows: u64,
    bytes_sent: u64,
}

/// Of a part, in a list.
pub(super) const PARTS: [SheetColumn<BenchPart>; 10] = [
    SheetColumn::data("part"),
    SheetColumn::data("seconds"),
    SheetColumn::data("cpuSeconds"),
    SheetColumn::data("peakBytes"),
    SheetColumn::data("calls"),
    SheetColumn::data("pages"),
    SheetColumn::data("pushes"),
    SheetColumn::data("bytesRead"),
    SheetColumn::data("bytesOfRows"),
    SheetColumn::data("bytesSent"),
];

/// A figure over the rounds.
#[derive(Serialize)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl From<(f64, f64, f64)> for Spread {
    fn from((median, least, most): (f64, f64, f64)) -> Self {
        Self {
            median,
            least,
            most,
        }
    }
}

/// Look-ups, and whether calls were limited: whoever reads a figure has to know.
fn settings(arguments: &BenchArguments) -> String {
    let limits = if arguments.limited {
        "limits of calls as set"
    } else {
        "limits of calls off"
    };
    if arguments.of != Of::Detections {
        return limits.to_owned();
    }
    let list = if arguments.v2_list {
        "carries"
    } else {
        "does not carry"
    };
    format!(
        "`ESET_ENRICH` {}, the v2 list {list} details, {limits}",
        arguments.enrich.setting()
    )
}

/// CPU of the pipeline, as a multiple of the reference's.
fn cpu_ratio(round: &Round) -> Option<f64> {
    let cpu = |measured: &Measured| measured.done.usage.cpu_seconds;
    Some(cpu(&round.pull?) / cpu(&round.reference))
}

/// Time of the pipeline, as a multiple of that of the pages alone.
fn latency_ratio(round: &Round) -> Option<f64> {
    Some(round.pull?.done.seconds / round.fetch?.done.seconds)
}

impl Figures {
    pub(super) fn new(arguments: &BenchArguments, rounds: Vec<Round>) -> Self {
        Self {
            of: arguments.of,
            rows: arguments.rows(),
            latency: arguments.latency(),
            settings: settings(arguments),
            rounds,
            start: None,
        }
    }

    pub(super) fn data(&self) -> BenchFigures {
        BenchFigures {
            of: self.of.what(),
            rows: self.rows,
            latency_ms: self.latency,
            rounds: self.rounds.len(),
            parts: [
                self.part("pull", |round| round.pull),
                self.part("reference", |round| Some(round.reference)),
                self.part("fetch", |round| round.fetch),
            ]
            .into_iter()
            .flatten()
            .collect(),
            cpu_ratio: self.spread(cpu_ratio).map(Spread::from),
            latency_ratio: self.spread(latency_ratio).map(Spread::from),
            complete: self.missing().is_none(),
            first_answer_ms: self
                .start
                .as_ref()
                .map(|one| milliseconds(one.first_answer)),
            idle_bytes: self.start.as_ref().map(|one| one.idle_bytes),
        }
    }

    fn part(
        &self,
        part: &'static str,
        of: impl Fn(&Round) -> Option<Measured>,
    ) -> Option<BenchPart> {
        let Measured { done, tally } = self.rounds.iter().find_map(&of)?;
        let cpu_seconds = self.spread(|round| Some(of(round)?.done.usage.cpu_seconds))?;
        let peaks = self.rounds.iter().filter_map(&of);
        Some(BenchPart {
            part,
            seconds: self.spread(|round| Some(of(round)?.done.seconds))?.0,
            cpu_seconds: cpu_seconds.0,
            peak_bytes: peaks.map(|one| one.done.usage.peak_bytes).max()?,
            calls: tally.calls,
            pages: tally.pages,
            pushes: tally.pushes,
            bytes_read: done.bytes,
            bytes_of_rows: tally.bytes,
            bytes_sent: tally.sent,
        })
    }

    pub(super) fn shown(&self) -> String {
        let Self {
            of,
            rows,
            latency,
            settings,
            ..
        } = self;
        let mut lines = vec![format!(
            "{} {}, {latency} ms of latency a call; {settings}; reference: the unavoidable work alone (read, \
             cut, gzip -1, write); medians of {} rounds, of memory the most",
            HumanCount(*rows),
            of.what(),
            self.rounds.len()
        )];
        lines.extend(
            self.measured("pull", |round| round.pull)
                .into_iter()
                .flatten(),
        );
        let reference = self.measured("reference", |round| Some(round.reference));
        lines.extend(reference.into_iter().flatten());
        if let Some((ratio, least, most)) = self.spread(cpu_ratio) {
            lines.push(format!(
                "ratio       {ratio:.2} x the CPU of the reference ({least:.2} to {most:.2})"
            ));
        }
        let serial = self.spread(|round| Some(round.fetch?.done.seconds));
        if let Some(((ratio, least, most), (serial, ..))) = self.spread(latency_ratio).zip(serial) {
            lines.push(format!(
                "latency     {ratio:.2} x the {serial:.2} s that the pages alone take, one after \
                 the other ({least:.2} to {most:.2})"
            ));
        }
        let complete = if self.missing().is_none() {
            "yes"
        } else {
            "NO"
        };
        lines.push(format!("complete    {complete}"));
        if let Some(start) = &self.start {
            lines.push(format!(
                "serve       first answer after {:.1} ms, {} idle (medians)",
                milliseconds(start.first_answer),
                HumanBytes(start.idle_bytes)
            ));
        }
        lines.join("\n")
    }

    /// The median over the rounds, the least and the most.
    fn spread(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<(f64, f64, f64)> {
        let mut figures: Vec<f64> = self.rounds.iter().filter_map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let (least, most) = figures.first().zip(figures.last())?;
        let middle = figures.get(figures.len() / 2)?;
        Some((*middle, *least, *most))
    }

    fn measured(&self, name: &str, of: impl Fn(&Round) -> Option<Measured>) -> Option<[String; 2]> {
        let Measured { done, tally } = self.rounds.iter().find_map(&of)?;
        let seconds = self.spread(|round| Some(of(round)?.done.seconds))?.0;
        let cpu_seconds = self
            .spread(|round| Some(of(round)?.done.usage.cpu_seconds))?
            .0;
        let all = self.rounds.iter().filter_map(&of);
        let peak = all.map(|one| one.done.usage.peak_bytes).max()?;
        #[allow(clippy::cast_precision_loss, reason = "a count of rows")]
        let rows = self.rows as f64;
        Some([
            format!(
                "{name:<11} {:.0} rows/s, {seconds:.2} s, {:.2} CPU s per 100,000 rows, peak {}",
                rows / seconds,
                cpu_seconds * 1e5 / rows,
                HumanBytes(peak),
            ),
            format!(
                "            {} calls ({} to {}, {} pushes); {} bytes of records in, {} bytes of \
                 rows out, sent as {}",
                HumanCount(tally.calls),
                HumanCount(tally.pages),
                self.of.source(),
                HumanCount(tally.pushes),
                HumanCount(done.bytes),
                HumanCount(tally.bytes),
                HumanCount(tally.sent),
            ),
        ])
    }

    /// What did not arrive, or should not have, in any round: nothing, or the figures mean nothing.
    pub(super) fn missing(&self) -> Option<String> {
        self.rounds.iter().find_map(|round| self.missing_in(round))
    }

    fn missing_in(&self, round: &Round) -> Option<String> {
        let rows = self.rows;
        let runs = [
            ("pull", round.pull, self.of.brought(rows)),
            ("reference", Some(round.reference), rows),
        ];
        runs.into_iter().find_map(|(name, run, wanted)| {
            let Measured { done, tally } = run?;
            let (read, arrived) = (done.records, tally.arrived);
            (read != rows || arrived != wanted).then(|| {
                format!(
                    "{name}: of {rows} records {read} were read and {arrived} arrived, not {wanted}: \
                     the figures mean nothing"
                )
            })
        })
    }
}
