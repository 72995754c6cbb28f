//! What is set for one stream: how often and how far it is read, and what of it is wanted.

use std::{collections::BTreeMap, time::Duration};

use super::{
    environment::Environment,
    names,
    reader::{Problem, Reader},
    values,
};
use crate::core::{mapping::wanted::WantedRecords, position::window::Pace, spelling::nearest};

/// What a first run reads.
const INITIAL_HISTORY: Duration = Duration::from_hours(24);

/// The ending of the settings that say what of a stream is wanted.
const FILTER: &str = "_FILTER";

/// `<STREAM>_EVERY` and its like, `<STREAM>_FILTER`, `INITIAL_HISTORY`, `SNAPSHOT_REWRITE`, and an entry's
/// `every`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamSettings {
    durations: BTreeMap<String, Duration>,
    filters: BTreeMap<String, WantedRecords>,
    every: Option<Duration>,
    history: Option<Duration>,
    rewrite: Option<Duration>,
}

impl StreamSettings {
    /// The pace of a stream such as `eset.detections`: `defaults`, changed by the settings. The
    /// history is 24 hours unless `INITIAL_HISTORY` is set.
    pub fn pace(&self, stream: &str, defaults: Pace) -> Pace {
        let prefix = names::in_capitals(stream);
        let setting = |ending| self.durations.get(&format!("{prefix}{ending}")).copied();
        Pace {
            every: setting("_EVERY").or(self.every).unwrap_or(defaults.every),
            delay: setting("_DELAY").unwrap_or(defaults.delay),
            lookback: setting("_LOOKBACK").unwrap_or(defaults.lookback),
            sweep: setting("_SWEEP").unwrap_or(defaults.sweep),
            step: setting("_STEP").unwrap_or(defaults.step),
            history: self.history.unwrap_or(INITIAL_HISTORY),
            passes: defaults.passes,
            rewrite: self.rewrite.unwrap_or(defaults.rewrite),
        }
    }

    /// What of a stream is wanted, with the setting that says it; all of it when there is none.
    pub fn wanted(&self, stream: &str) -> Option<(&str, &WantedRecords)> {
        let setting = format!("{}{FILTER}", names::in_capitals(stream));
        let (setting, wanted) = self.filters.get_key_value(&setting)?;
        Some((setting, wanted))
    }

    /// Settings that belong to none of `streams`: misspelt, most likely. Only who knows the
    /// streams can tell.
    pub fn unknown(&self, streams: &[&str]) -> Vec<Problem> {
        let known: Vec<String> = streams
            .iter()
            .map(|stream| names::in_capitals(stream))
            .collect();
        let durations = self.durations.keys();
        durations
            .chain(self.filters.keys())
            .filter_map(|name| Some((name, names::stream_of(name)?)))
            .filter(|(_, stream)| !known.iter().any(|known| known == stream))
            .map(|(name, stream)| Problem {
                setting: name.clone(),
                connection: None,
                text: match nearest(stream, known.iter().map(String::as_str)) {
                    Some(near) => format!("belongs to no stream; did you mean `{near}`?"),
                    None => format!("belongs to no stream; there are {}", known.join(", ")),
                },
            })
            .collect()
    }

    /// An entry's `own` stream settings win over its `every`, which wins over the flat ones.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        environment: &Environment,
        every: Option<Duration>,
        own: &BTreeMap<String, String>,
    ) -> Self {
        let flat = environment
            .names()
            .filter(|name| every.is_none() || !name.ends_with("_EVERY"));
        let (mut durations, mut filters) = (BTreeMap::new(), BTreeMap::new());
        for name in flat.chain(own.keys().map(String::as_str)) {
            if names::stream_of(name).is_none() {
                continue;
            }
            if name.ends_with(FILTER) {
                if let Ok(Some(wanted)) = reader.optional(name, str::parse) {
                    filters.insert(name.to_owned(), wanted);
                }
                continue;
            }
            let parse = if name.ends_with("_STEP") {
                values::some_duration
            } else {
                values::duration
            };
            if let Ok(Some(duration)) = reader.optional(name, parse) {
                durations.insert(name.to_owned(), duration);
            }
        }
        let history = reader.optional("INITIAL_HISTORY", values::duration);
        let rewrite = reader.optional("SNAPSHOT_REWRITE", values::some_duration);
        Self {
            durations,
            filters,
            every,
            history: history.ok().flatten(),
            rewrite: rewrite.ok().flatten(),
        }
    }
}
