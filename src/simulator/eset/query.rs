//! Query parameters and the tokens of pages and deltas.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::simulator::{
    answer::{Answer, Incoming, camel},
    dice::{hash, hash_text},
    seal::{Use, open, seal},
    world::lane::nanos,
};

const DEFAULT_PAGE: u64 = 50;
const MAX_PAGE: u64 = 1000;
const MAX_TOKEN: usize = 128;

/// A query whose names are all known.
#[derive(Debug)]
pub(in crate::simulator) struct Query {
    seed: u64,
    key: u64,
    values: Vec<(String, String)>,
    /// How many records a page holds.
    pub(in crate::simulator) size: usize,
    /// Where to go on, when this is not the first page.
    pub(in crate::simulator) page: Option<Page>,
}

/// Where a later page goes on: everything but the query itself.
#[derive(Debug, Clone, Copy)]
pub(in crate::simulator) struct Page {
    /// The time of the first page; later pages see the world as it was then.
    pub(in crate::simulator) snapshot: i64,
    pub(in crate::simulator) lane: usize,
    pub(in crate::simulator) index: u64,
    pub(in crate::simulator) total: u64,
}

impl Query {
    pub(in crate::simulator) fn parse(
        seed: u64,
        incoming: &Incoming,
        allowed: &[&str],
        cap: u64,
    ) -> Result<Self, Answer> {
        let values: Vec<(String, String)> = incoming
            .query
            .iter()
            .map(|(name, value)| (camel(name), value.clone()))
            .collect();
        if values
            .iter()
            .any(|(name, _)| !allowed.contains(&name.as_str()))
        {
            return Err(Answer::bad_request());
        }
        // A page token belongs to its query; only the size may change on the way.
        let key = values
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "pageToken" | "pageSize"))
            .map(|(name, value)| hash(hash_text(1, name), &[hash_text(2, value)]))
            .fold(hash_text(seed, &incoming.path), |key, part| key ^ part);
        let mut query = Self {
            seed,
            key,
            values,
            size: 0,
            page: None,
        };
        let size = match query.get("pageSize").map(str::parse::<u64>) {
            None | Some(Ok(0)) => DEFAULT_PAGE,
            Some(Ok(size)) => size.min(MAX_PAGE),
            Some(Err(_)) => return Err(Answer::bad_request()),
        };
        query.size = usize::try_from(size.min(cap)).unwrap_or(1);
        query.page = match query.get("pageToken") {
            None => None,
            Some(token) => Some(query.open_page(token).ok_or_else(Answer::bad_request)?),
        };
        Ok(query)
    }

    /// A parameter that is not empty.
    pub(in crate::simulator) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a repeated parameter.
    pub(in crate::simulator) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self
            .values
            .iter()
            .filter(move |(given, value)| given == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that is a time.
    pub(in crate::simulator) fn time(&self, name: &str) -> Result<Option<i64>, Answer> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => parse_time(text).map(Some).ok_or_else(Answer::bad_request),
        }
    }

    /// The token for the page that goes on at `page`, or the sign of the last page.
    pub(in crate::simulator) fn next(&self, page: Option<Page>) -> Value {
        let Some(page) = page else { return json!("") };
        let words = [
            self.key,
            page.snapshot.cast_unsigned(),
            page.lane as u64,
            page.index,
            page.total,
        ];
        json!(seal(self.seed, Use::Page, &words))
    }

    fn open_page(&self, token: &str) -> Option<Page> {
        let [key, snapshot, lane, index, total] =
            open(self.seed, Use::Page, token).filter(|_| token.len() <= MAX_TOKEN)?;
        let lane = usize::try_from(lane).ok().filter(|_| key == self.key)?;
        Some(Page {
            snapshot: snapshot.cast_signed(),
            lane,
            index,
            total,
        })
    }

    /// The positions that a delta token stands for.
    pub(in crate::simulator) fn open_delta(&self, token: &str) -> Option<[u64; 3]> {
        open(self.seed, Use::Delta, token)
    }

    pub(in crate::simulator) fn seal_delta(&self, positions: [u64; 3]) -> String {
        seal(self.seed, Use::Delta, &positions)
    }
}

/// RFC 3339; the seconds may be missing.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let exact = |text: &str| DateTime::parse_from_rfc3339(text).ok();
    let with_seconds = || {
        let (minute, zone) = (text.get(..16)?, text.get(16..)?);
        exact(&format!("{minute}:00{zone}"))
    };
    exact(text)
        .or_else(with_seconds)
        .map(|time| nanos(time.with_timezone(&Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_have_an_offset_and_no_seconds() {
        let time = parse_time("2024-10-30T10:00:00Z");
        assert!(time.is_some());
        for text in [
            "2024-10-30T10:00Z",
            "2024-10-30T12:00+02:00",
            "2024-10-30T10:00:00.000000000Z",
        ] {
            assert_eq!(parse_time(text), time, "{text}");
        }
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("2024-10-30"), None);
    }
}
