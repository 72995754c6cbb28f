//! What an answer other than 200 means: its status, and the words in its body.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::core::protocol::retry::{Action, Sent, action};

/// What was asked, as far as it decides what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorDialect {
    /// A list.
    List,
    /// A list of what there is now: some tenants answer 404 when that is nothing.
    Snapshot,
    /// A list with what makes it heavy: a failure may be the answer's size.
    Expanded,
    /// A hunting query.
    Hunting,
    /// A file behind a link of its own.
    File,
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it calls for.
    pub action: Action,
    /// The app lacks a role, which an access token that is granted after consent has.
    pub lacks_role: bool,
    /// How long the service wants to be left alone, when it says so in words.
    pub wait: Option<Duration>,
    /// What it said, as far as that may be shown.
    pub what: String,
}

/// The error of an answer, in the shapes that are known. What is null or no text says nothing, and
/// takes nothing from what the other member says.
#[derive(Debug, Default)]
struct OdataError {
    code: String,
    message: String,
}

fn problem(body: &[u8]) -> OdataError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = |name: &str| {
        let text = body
            .get("error")
            .and_then(|error| error.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    OdataError {
        code: said("code"),
        message: said("message"),
    }
}

/// Words that say that the tenant lacks a licence or a product, which a new token does not change,
/// and what they say.
const UNLICENSED: &[(&str, &str)] = &[
    (
        "No Tvm license",
        "the tenant has no licence of Microsoft Defender Vulnerability Management",
    ),
    (
        "Account mode is inactive",
        "Microsoft Defender for Endpoint is not active in the tenant: it has no licence of it, or \
         one that has ended",
    ),
    (
        "Account is not provisioned",
        "Microsoft Defender XDR is not set up in the tenant",
    ),
    (
        "does not have the required license",
        "the tenant has no licence of what this reads",
    ),
];

/// Words that say that an answer would be too much.
const TOO_MUCH: &[&str] = &[
    "exceeded the allowed result size",
    "exceeded the allowed limits",
    "exceeded the timeout",
    "query was cancelled due to timeout",
    "for Top query has been exceeded",
];

/// The codes of a 404 that says that nothing was found; a path that is not there has none.
const NOTHING: &[&str] = &["NotFound", "ResourceNotFound"];

/// Words that say that a table is not there.
const NO_TABLE: &str = "Failed to resolve table";

/// Words that say that the tenant's share of the service is used up.
const USED_UP: &str = "exceeded processing resources";

/// What an answer of this status and body means.
///
/// | answer | action |
/// |---|---|
/// | 401 or 403 in words of a licence | not offered, with the words and the product |
/// | 403 | forbidden, with the roles that it names |
/// | 404 that says that there is nothing | of what there is now: empty; else retry |
/// | 400, 413, 504 in words of size or time; 413 and 504 of a query | too large |
/// | 400 that a table is not there | not offered |
/// | 429 that names a number of seconds | retry after these |
/// | 429 of the tenant's share | used up |
/// | 5xx of a heavy list | too large |
/// | 403 of a file | its link is too old |
/// | 404 and 501 without such words | not there |
/// | anything else | as of [`action`] |
pub fn refusal(asks: ErrorDialect, status: StatusCode, sent: Sent, body: &[u8]) -> Refusal {
    let OdataError { code, message } = problem(body);
    let says = |words: &str| message.contains(words);
    let what = described(status, &code);
    let plain = |action| Refusal {
        action,
        lacks_role: false,
        wait: None,
        what: what.clone(),
    };
    let unlicensed = UNLICENSED.iter().find(|(words, _)| says(words));
    if let (401 | 403, Some((words, means))) = (status.as_u16(), unlicensed) {
        return Refusal {
            what: format!("{what} (`{words}`): {means}"),
            ..plain(Action::NotOffered)
        };
    }
    match status.as_u16() {
        403 if asks == ErrorDialect::File => plain(Action::PositionRefused),
        403 => match roles(&message) {
            Some(roles) => Refusal {
                what: format!("{what}: the app lacks the role {roles}"),
                lacks_role: true,
                ..plain(Action::Forbidden)
            },
            None => plain(Action::Forbidden),
        },
        404 if NOTHING.contains(&code.as_str()) => plain(match asks {
            ErrorDialect::Snapshot => Action::Empty,
            _ => Action::Retry,
        }),
        400 if says(NO_TABLE) => Refusal {
            what: format!("{what}: the tenant has no such table"),
            ..plain(Action::NotOffered)
        },
        429 if says(USED_UP) => plain(Action::UsedUp),
        400 | 413 | 504 if TOO_MUCH.iter().any(|words| says(words)) => plain(Action::TooLarge),
        413 | 504 if asks == ErrorDialect::Hunting => plain(Action::TooLarge),
        500.. if asks == ErrorDialect::Expanded => plain(Action::TooLarge),
        429 => Refusal {
            wait: seconds(&message),
            ..plain(Action::Retry)
        },
        _ => plain(action(status, sent)),
    }
}

/// A code is a word of the service; its message may quote anything.
fn described(status: StatusCode, code: &str) -> String {
    let is_word = code.len() < 40
        && code
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_word && !code.is_empty() {
        format!("answered {} {code}", status.as_u16())
    } else {
        format!("answered {status}")
    }
}

/// The roles that would do: `API required roles: A,B, application roles: C.` → `A or B`.
fn roles(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("required roles:")?;
    let rest = rest.split("application roles").next().unwrap_or_default();
    let is_role = |role: &&str| {
        role.contains('.')
            && role.len() < 60
            && role
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    let roles: Vec<&str> = rest
        .split([',', ' '])
        .map(|role| role.trim_end_matches('.'))
        .filter(is_role)
        .collect();
    (!roles.is_empty()).then(|| roles.join(" or "))
}

/// `You can send requests again in 8 seconds.`
fn seconds(message: &str) -> Option<Duration> {
    let (before, _) = message.split_once(" second")?;
    let number = before.rsplit(' ').next()?;
    number.parse().ok().map(Duration::from_secs)
}
