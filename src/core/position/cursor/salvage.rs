//! What a saved state that can't be read still says.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Gap, Position, StreamKey, StreamState};
use crate::error::Error;

/// The error of a saved state that can't be gone on from, `how` being the rest of a sentence.
pub fn damaged(key: &StreamKey, how: &str) -> Error {
    Error::config(format!(
        "the saved state of `{key}` {how}: `cursor reset {} --connection {}`; the stream then starts \
         with INITIAL_HISTORY",
        key.stream, key.connection
    ))
}

impl StreamState {
    /// The state that takes the place of a saved one that can't be read: a first run's, with what
    /// somebody has to know or has asked for as far as it is still there, and a gap that says so.
    #[must_use]
    pub fn salvaged(text: &str, now: DateTime<Utc>) -> Self {
        let members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let gaps = members.get("gaps").and_then(Value::as_array);
        let gaps = gaps.into_iter().flatten().filter_map(parsed);
        let mut state = Self {
            paused: member(&members, "paused"),
            lease: member(&members, "lease"),
            gaps: gaps.collect(),
            ..Self::default()
        };
        let cursor = match member(&members, "position") {
            Some(Position::Time(cursor)) => Some(cursor),
            _ => None,
        };
        let good: Option<DateTime<Utc>> = member(&members, "good");
        let read = good.or(cursor).or_else(|| member(&members, "floor"));
        let until = match read {
            Some(_) => "",
            None => ", until when it had been read is not known",
        };
        state.add_gap(Gap {
            from: read.unwrap_or(now).min(now),
            to: now,
            why: format!(
                "the saved state was damaged and was reset{until}; what INITIAL_HISTORY reaches is \
                 read again, and what lies before may be missing"
            ),
        });
        state
    }
}

fn member<T: DeserializeOwned>(members: &Map<String, Value>, name: &str) -> Option<T> {
    parsed(members.get(name)?)
}

fn parsed<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn what_can_still_be_read_of_a_damaged_state_is_kept() {
        let (good, now) = ("2026-01-01T00:00:00Z", time("2026-01-05T00:00:00Z"));
        let text = format!(
            r#"{{"version":1,"position":7,"good":"{good}","paused":"{good}","gaps":[
            {{"from":"{good}","to":"{good}","why":"known"}},{{"from":"nonsense"}}]}}"#
        );
        let state = StreamState::salvaged(&text, now);
        assert_eq!(state.paused, Some(time(good)));
        assert_eq!(state.position, None);
        let [known, reset] = &state.gaps[..] else {
            panic!("two gaps: {:?}", state.gaps)
        };
        assert_eq!(known.why, "known");
        assert_eq!((reset.from, reset.to), (time(good), now));
    }

    #[test]
    fn a_state_of_which_nothing_can_be_read_leaves_a_gap_of_unknown_beginning() {
        let now = time("2026-01-05T00:00:00Z");
        for text in ["", "nonsense", "[]", "{\"good\":7}"] {
            let state = StreamState::salvaged(text, now);
            let [gap] = &state.gaps[..] else {
                panic!("one gap: {:?}", state.gaps)
            };
            assert_eq!((gap.from, gap.to), (now, now));
            assert!(gap.why.contains("not known"), "{}", gap.why);
        }
    }
}
