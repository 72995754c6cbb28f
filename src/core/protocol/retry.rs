//! Retry: a table, then arithmetic.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;

/// What an answer's status calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read the body.
    Accept,
    /// Not ready: ask the same again, with the answer's `response-id` when it has one.
    Pending,
    /// Ask again later.
    Retry,
    /// Ask again at once without the `response-id`, which is dead.
    StartOver,
    /// Ask again with another access token.
    Authorize,
    /// The token or page that was sent along is refused.
    PositionRefused,
    /// The source says that it does not offer this.
    NotOffered,
    /// As if there were no such thing, without a word of the source that says so: it does not offer
    /// this, or somebody in between answered.
    NotThere,
    /// The account may not see this.
    Forbidden,
    /// There are no records.
    Empty,
    /// The answer would be too much: ask for less.
    TooLarge,
    /// The tenant's share of the service is used up for now.
    UsedUp,
    /// Nothing that was agreed on.
    Unexpected,
}

/// What was sent along with a request, as far as it decides what an answer means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// A `response-id`.
    pub response_id: bool,
    /// A page or delta token that the source may have forgotten.
    pub position: bool,
}

/// The table. Bodies of other answers than 200 are usually empty and play no part.
///
/// | status | action | source |
/// |---|---|---|
/// | 200 | accept | |
/// | 202 | pending | help.eset.com, pending responses |
/// | 400 404 410 with a position | position refused | undocumented, seen as 400 |
/// | 404 with a `response-id` | start over | help.eset.com: dead after 10 minutes or delivery |
/// | 401 | authorize | |
/// | 403 | forbidden | |
/// | 404 | not there | |
/// | 501 | not there | seen on tenants without Cloud Office Security |
/// | 408 425 429 5xx | retry | |
/// | 2xx but 200, 202 and 204 | retry | not a whole answer: 206 of a federated service leaves out who did not answer |
/// | 504 with a `response-id` | start over | help.eset.com: not ready in 120 s |
pub fn action(status: StatusCode, sent: Sent) -> Action {
    match status.as_u16() {
        200 => Action::Accept,
        202 => Action::Pending,
        404 | 504 if sent.response_id => Action::StartOver,
        400 | 404 | 410 if sent.position => Action::PositionRefused,
        401 => Action::Authorize,
        403 => Action::Forbidden,
        404 | 501 => Action::NotThere,
        201 | 203 | 205..=299 | 408 | 425 | 429 | 500.. => Action::Retry,
        _ => Action::Unexpected,
    }
}

/// The longest wait that is our own choice.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// How long to wait before attempt `attempt` (1 = the first repeat): doubled each time from one
/// second, and a random half of it taken off. `random` lies in `0.0..1.0`.
pub fn backoff(attempt: u32, random: f64) -> Duration {
    let whole = Duration::from_secs(1 << (attempt.saturating_sub(1)).min(5)).min(MAX_BACKOFF);
    whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

/// A `Retry-After`: seconds, or an HTTP date.
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table() {
        let plain = Sent::default();
        let position = Sent {
            position: true,
            ..plain
        };
        let pending = Sent {
            response_id: true,
            position: true,
        };
        let of = |status: u16, sent| action(StatusCode::from_u16(status).unwrap(), sent);
        for (status, sent, expected) in [
            (200, plain, Action::Accept),
            (202, plain, Action::Pending),
            (201, plain, Action::Retry),
            (203, plain, Action::Retry),
            (204, plain, Action::Unexpected),
            (206, plain, Action::Retry),
            (206, position, Action::Retry),
            (226, plain, Action::Retry),
            (302, plain, Action::Unexpected),
            (400, plain, Action::Unexpected),
            (400, position, Action::PositionRefused),
            (401, position, Action::Authorize),
            (403, position, Action::Forbidden),
            (404, plain, Action::NotThere),
            (404, position, Action::PositionRefused),
            (404, pending, Action::StartOver),
            (410, position, Action::PositionRefused),
            (429, plain, Action::Retry),
            (500, plain, Action::Retry),
            (501, position, Action::NotThere),
            (503, plain, Action::Retry),
            (504, plain, Action::Retry),
            (504, pending, Action::StartOver),
        ] {
            assert_eq!(of(status, sent), expected, "{status} {sent:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds = |value: &str| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("Wed, 31 Dec 2025 00:01:00 GMT"), Some(0));
        assert_eq!(seconds("99999999999"), Some(99_999_999_999));
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("soon"), None);
    }

    proptest! {
        #[test]
        fn backoff_grows_and_is_bounded(attempt in 1u32..100, random in 0.0f64..1.0) {
            let wait = backoff(attempt, random);
            prop_assert!(wait <= MAX_BACKOFF);
            prop_assert!(wait >= Duration::from_millis(500));
            prop_assert!(backoff(attempt + 1, random) >= wait);
        }
    }
}
