//! Faults by name: what to play, on which calls, how often.

use std::{fmt, str::FromStr};

use super::{
    kind::{KINDS, Kind},
    target::Target,
};
use crate::error::{Error, Result};

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it strikes.
    pub target: Target,
    /// How it is written, with an example of its value.
    pub kind: &'static str,
    /// What it plays.
    pub plays: &'static str,
}

/// A fault: `target:kind[=value][xN][@K]`, that is N times (once by default, `x*` for ever)
/// beginning with the K-th call that it could strike (the first by default).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) target: Target,
    pub(crate) kind: Kind,
    pub(crate) times: Option<u64>,
    pub(crate) from: u64,
    text: String,
}

impl Fault {
    /// Reads a fault, for example `eset.detections:429x3`. An error names what would be valid.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: String| Error::config(format!("fault `{text}`: {what}"));
        let (target, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("expected `target:kind[=value][xN][@K]`".to_owned()))?;
        let target = Target::ALL
            .into_iter()
            .find(|one| one.name() == target)
            .ok_or_else(|| {
                let names: Vec<_> = Target::ALL.map(Target::name).to_vec();
                bad(format!("no target `{target}`; there are {}", list(&names)))
            })?;
        let (rest, from) = match rest.rsplit_once('@') {
            None => (rest, 1),
            Some((rest, from)) => match from.parse() {
                Ok(from) if from > 0 => (rest, from),
                _ => return Err(bad(format!("`@{from}` is not the number of a call"))),
            },
        };
        let (rest, times) = match rest.rsplit_once('x') {
            Some((rest, "*")) => (rest, None),
            Some((rest, times)) if times.parse::<u64>().is_ok() => (rest, times.parse().ok()),
            _ => (rest, Some(1)),
        };
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (rest, None),
        };
        let row = KINDS.iter().find(|(spelling, group, _)| {
            spelling.split('=').next() == Some(name) && target.takes(*group)
        });
        let Some((spelling, ..)) = row else {
            let kinds: Vec<_> = KINDS
                .iter()
                .filter(|row| target.takes(row.1))
                .map(|row| row.0)
                .collect();
            return Err(bad(format!(
                "no kind `{name}` here; there are {}",
                list(&kinds)
            )));
        };
        let value = match (spelling.contains('='), value) {
            (false, None) => 0,
            (false, Some(_)) => return Err(bad(format!("`{name}` takes no value"))),
            (true, value) => value
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| bad(format!("`{name}` needs a number, as in `{spelling}`")))?,
        };
        let kind = Kind::new(name, value)
            .ok_or_else(|| bad(format!("`{name}` is listed but not played")))?;
        Ok(Self {
            target,
            kind,
            times,
            from,
            text: text.to_owned(),
        })
    }

    /// Every fault that can be played. `{target}:{kind}` of each row can be parsed.
    pub fn catalogue() -> Vec<Entry> {
        let entries = |target: Target| {
            KINDS
                .iter()
                .filter(move |row| target.takes(row.1))
                .map(move |(kind, _, plays)| Entry {
                    target,
                    kind,
                    plays,
                })
        };
        Target::ALL.into_iter().flat_map(entries).collect()
    }

    /// What it strikes.
    pub fn target(&self) -> Target {
        self.target
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_catalogue_can_be_parsed() {
        let catalogue = Fault::catalogue();
        for entry in &catalogue {
            let text = format!("{}:{}", entry.target.name(), entry.kind);
            for text in [text.clone(), format!("{text}x3"), format!("{text}x*@2")] {
                let fault = Fault::parse(&text).unwrap();
                assert_eq!(fault.target(), entry.target);
                assert_eq!(fault.to_string(), text);
            }
        }
        assert!(catalogue.len() > 250, "{}", catalogue.len());
    }

    #[test]
    fn number_and_beginning_are_read() {
        let fault = Fault::parse("ingestion:429-retry-after=7x3@2").unwrap();
        assert_eq!(
            fault.kind,
            Kind::Status {
                status: 429,
                retry_after: Some(7)
            }
        );
        assert_eq!((fault.times, fault.from), (Some(3), 2));
        assert_eq!(Fault::parse("eset.token:500").unwrap().times, Some(1));
        assert_eq!(Fault::parse("eset.token:500x*").unwrap().times, None);
    }

    #[test]
    fn errors_name_what_would_be_valid() {
        let error = |text| Fault::parse(text).unwrap_err().to_string();
        assert!(error("eset.detection:429").contains("`eset.detections`"));
        assert!(error("eset.detections:lost-answer").contains("`expired-delta`"));
        assert!(error("ingestion:expired-delta").contains("`lost-answer`"));
        assert!(error("eset.detections:slow").contains("`slow=5`"));
        assert!(error("eset.detections:429=3").contains("takes no value"));
        assert!(error("eset.detections:429@0").contains("`@0`"));
        assert!(error("429").contains("target:kind"));
    }
}
