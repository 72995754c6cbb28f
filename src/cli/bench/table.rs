//! What was measured, for a person.

use indicatif::{HumanBytes, HumanCount};

use super::{Arguments, Measured, Of, milliseconds, start::Start};

/// Everything that was measured.
pub(super) struct Figures {
    of: Of,
    rows: u64,
    latency: u64,
    rounds: u32,
    reference: Measured,
    pub(super) pull: Option<Measured>,
    pub(super) fetch: Option<Measured>,
    pub(super) start: Option<Start>,
}

impl Figures {
    pub(super) fn new(arguments: &Arguments, reference: Measured) -> Self {
        Self {
            of: arguments.of,
            rows: arguments.rows(),
            latency: arguments.latency,
            rounds: arguments.rounds,
            reference,
            pull: None,
            fetch: None,
            start: None,
        }
    }

    /// All of it measured twice: what did not arrive in either run stays to be seen.
    pub(super) fn or_better(self, other: Self) -> Self {
        if self.missing().is_some() {
            return self;
        }
        if other.missing().is_some() {
            return other;
        }
        let better = |one: Measured, other: Measured| Measured {
            done: one.done.or_better(other.done),
            ..one
        };
        let of_both = |one: Option<Measured>, other: Option<Measured>| {
            one.zip(other).map(|(one, other)| better(one, other))
        };
        Self {
            reference: better(self.reference, other.reference),
            pull: of_both(self.pull, other.pull),
            fetch: of_both(self.fetch, other.fetch),
            ..self
        }
    }

    pub(super) fn shown(&self) -> String {
        let Self {
            of, rows, latency, ..
        } = self;
        let mut lines = vec![format!(
            "{} {}, {latency} ms of latency a call; reference: the unavoidable work alone (read, \
             cut, gzip -1, write); the least of {} rounds, of memory the most",
            HumanCount(*rows),
            of.what(),
            self.rounds
        )];
        if let Some(pull) = &self.pull {
            lines.extend(self.measured("pull", pull));
        }
        lines.extend(self.measured("reference", &self.reference));
        if let Some(pull) = &self.pull {
            let ratio = pull.done.usage.cpu_seconds / self.reference.done.usage.cpu_seconds;
            lines.push(format!("ratio       {ratio:.2} x the CPU of the reference"));
            if let Some(fetch) = &self.fetch {
                let serial = fetch.done.seconds;
                lines.push(format!(
                    "latency     {:.2} x the {serial:.2} s that the pages alone take, one after \
                     the other",
                    pull.done.seconds / serial
                ));
            }
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

    fn measured(&self, name: &str, measured: &Measured) -> [String; 2] {
        let Measured { done, tally } = measured;
        #[allow(clippy::cast_precision_loss, reason = "a count of rows")]
        let rows = self.rows as f64;
        [
            format!(
                "{name:<11} {:.0} rows/s, {:.2} s, {:.2} CPU s per 100,000 rows, peak {}",
                rows / done.seconds,
                done.seconds,
                done.usage.cpu_seconds * 1e5 / rows,
                HumanBytes(done.usage.peak_bytes),
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
        ]
    }

    /// What did not arrive, or should not have, in either run: nothing, or the figures mean nothing.
    pub(super) fn missing(&self) -> Option<String> {
        let rows = self.rows;
        let runs = [
            ("pull", self.pull, self.of.brought(rows)),
            ("reference", Some(self.reference), rows),
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
