//! Lists as `OData` answers them.

use serde_json::{Map, Value, json};

use crate::simulator::{
    answer::{Answer, Content, Incoming},
    listing::{Listing, Records},
};

use axum::http::StatusCode;

/// 200 with `value`, and with a link to the next page when there is one.
pub(super) fn value(
    incoming: &Incoming,
    kind: &str,
    count: usize,
    records: Records,
    next: Option<String>,
) -> Answer {
    let next = next.map(|next| ("@odata.nextLink".to_owned(), json!(next)));
    of(Listing {
        before: head(incoming, kind),
        list: "value",
        count,
        records,
        after: next.into_iter().collect(),
    })
}

/// What comes before a list.
pub(super) fn head(incoming: &Incoming, kind: &str) -> Map<String, Value> {
    let service = incoming.path.split('/').nth(1).unwrap_or_default();
    let root = if service == "graph" { "v1.0" } else { "api" };
    let context = format!("{}/{service}/{root}/$metadata#{kind}", incoming.origin);
    single("@odata.context", json!(context))
}

/// 200 with a list.
pub(super) fn of(listing: Listing) -> Answer {
    Answer {
        content: Content::List(Box::new(listing)),
        ..Answer::status(StatusCode::OK)
    }
}

/// An object with one member.
pub(super) fn single(name: &str, value: Value) -> Map<String, Value> {
    [(name.to_owned(), value)].into_iter().collect()
}

/// A link to the page that `token` names: the same call with another `$skiptoken`.
pub(super) fn next_link(incoming: &Incoming, token: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let same = incoming
        .query
        .iter()
        .filter(|(name, _)| name != "$skiptoken")
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .chain([format!("$skiptoken={token}")]);
    let query: Vec<String> = same.collect();
    format!("{}{}?{}", incoming.origin, incoming.path, query.join("&"))
}
