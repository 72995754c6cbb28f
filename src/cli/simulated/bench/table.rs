//! What was measured, for a person.

use indicatif::{HumanBytes, HumanCount};

use super::{BenchArguments, Measured, Of, milliseconds, start::Start};

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
        let cpu = |measured: &Measured| measured.done.usage.cpu_seconds;
        let ratio = |round: &Round| Some(cpu(&round.pull?) / cpu(&round.reference));
        if let Some((ratio, least, most)) = self.spread(ratio) {
            lines.push(format!(
                "ratio       {ratio:.2} x the CPU of the reference ({least:.2} to {most:.2})"
            ));
        }
        let latency = |round: &Round| Some(round.pull?.done.seconds / round.fetch?.done.seconds);
        let serial = self.spread(|round| Some(round.fetch?.done.seconds));
        if let Some(((ratio, least, most), (serial, ..))) = self.spread(latency).zip(serial) {
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
