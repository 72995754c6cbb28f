//! The options of a query.

use super::{
    Bends, errors,
    odata::{Filter, JsonObject},
};
use crate::simulator::{
    answer::{Answer, Incoming},
    dice::{hash, hash_text},
    seal::{Use, open, seal},
    target::Target,
};

/// What an endpoint takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) target: Target,
    /// Query options beside `$top`, `$skip` and `$filter`.
    pub(super) also: &'static [&'static str],
    pub(super) filter: JsonObject,
    /// The largest `$top`.
    pub(super) top: u64,
    /// The largest `$skip`.
    pub(super) skip: u64,
    /// Whether a larger `$top` is taken for the largest; else it is refused.
    pub(super) clamps: bool,
}

/// A query that the endpoint understands.
#[derive(Debug)]
pub(super) struct Query<'a> {
    incoming: &'a Incoming,
    seed: u64,
    pub(super) filter: Filter,
    /// Records of a page.
    pub(super) size: usize,
    pub(super) has_top: bool,
    pub(super) skip: usize,
}

impl<'a> Query<'a> {
    pub(super) fn parse(
        seed: u64,
        incoming: &'a Incoming,
        rules: &Rules,
        bends: &Bends,
    ) -> Result<Self, Answer> {
        let bad = |message: String| errors::bad_query(rules.target, message);
        for (name, _) in &incoming.query {
            let known = ["$top", "$skip", "$filter"].iter().chain(rules.also);
            if !known
                .into_iter()
                .any(|known| known.eq_ignore_ascii_case(name))
            {
                return Err(bad(format!("Query option '{name}' is not allowed.")));
            }
        }
        let get = |name: &str| option(incoming, name);
        let number = |name: &str| match get(name) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| bad(format!("Invalid value '{text}' for {name} query option."))),
        };
        let top = number("$top")?;
        let too_many = |limit: u64, option: &str, asked: u64| {
            bad(format!(
                "The limit of '{limit}' for {option} query has been exceeded. The value from the \
                 incoming request is '{asked}'."
            ))
        };
        if let Some(asked) = top.filter(|top| *top > rules.top && !rules.clamps) {
            return Err(too_many(rules.top, "Top", asked));
        }
        let skip = number("$skip")?.unwrap_or(0);
        if skip > rules.skip {
            return Err(too_many(rules.skip, "Skip", skip));
        }
        let filter =
            Filter::parse(get("$filter").unwrap_or_default(), rules.filter).map_err(bad)?;
        let size = top.unwrap_or(rules.top).min(rules.top).min(bends.page_size);
        Ok(Self {
            incoming,
            seed,
            filter,
            size: usize::try_from(size).unwrap_or(usize::MAX),
            has_top: top.is_some(),
            skip: usize::try_from(skip).unwrap_or(usize::MAX),
        })
    }

    /// A query option that is there.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        option(self.incoming, name)
    }

    /// The words of the `$skiptoken`, which belongs to this query alone.
    pub(super) fn position<const N: usize>(&self) -> Result<Option<[u64; N]>, ()> {
        let Some(token) = self.get("$skiptoken") else {
            return Ok(None);
        };
        let (key, rest) = token.split_once('.').ok_or(())?;
        if open(self.seed, Use::Skip, key) != Some([self.key()]) {
            return Err(());
        }
        open(self.seed, Use::Skip, rest).map(Some).ok_or(())
    }

    /// A `$skiptoken` for this query.
    pub(super) fn token(&self, words: &[u64]) -> String {
        let key = seal(self.seed, Use::Skip, &[self.key()]);
        format!("{key}.{}", seal(self.seed, Use::Skip, words))
    }

    fn key(&self) -> u64 {
        self.incoming
            .query
            .iter()
            .filter(|(name, _)| name != "$skiptoken")
            .map(|(name, value)| {
                hash(
                    hash_text(1, &name.to_ascii_lowercase()),
                    &[hash_text(2, value)],
                )
            })
            .fold(hash_text(self.seed, &self.incoming.path), |key, part| {
                key ^ part
            })
    }
}

fn option<'a>(incoming: &'a Incoming, name: &str) -> Option<&'a str> {
    incoming
        .query
        .iter()
        .find(|(given, value)| given.eq_ignore_ascii_case(name) && !value.is_empty())
        .map(|(_, value)| value.as_str())
}
