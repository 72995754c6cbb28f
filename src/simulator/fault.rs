//! Faults by name: what to play, on which calls, how often.

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// The part of the outside world that a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `POST /oauth/token`.
    EsetToken,
    /// `GET /v1/detections:listDelta`.
    EsetDetections,
    /// `GET /v1/detections`.
    EsetDetectionsWindow,
    /// `GET /v2/detections:listDelta`.
    EsetCloudOffice,
    /// `GET /v2/detections`.
    EsetCloudOfficeWindow,
    /// `GET /v2/incidents`.
    EsetIncidents,
    /// `GET /v2/incidents/{uuid}`.
    EsetIncidentsGet,
    /// A detection by its uuid, or many by `POST /v2/detections:batchGet`.
    EsetDetails,
    /// Devices: list, get and `batchGet`.
    EsetDevices,
    /// `POST /{tenant}/oauth2/v2.0/token`.
    EntraToken,
    /// `POST /dataCollectionRules/{dcr}/streams/{stream}`.
    Ingestion,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 11] = [
        Self::EsetToken,
        Self::EsetDetections,
        Self::EsetDetectionsWindow,
        Self::EsetCloudOffice,
        Self::EsetCloudOfficeWindow,
        Self::EsetIncidents,
        Self::EsetIncidentsGet,
        Self::EsetDetails,
        Self::EsetDevices,
        Self::EntraToken,
        Self::Ingestion,
    ];

    /// The name that a fault is written with.
    pub fn name(self) -> &'static str {
        match self {
            Self::EsetToken => "eset.token",
            Self::EsetDetections => "eset.detections",
            Self::EsetDetectionsWindow => "eset.detections.window",
            Self::EsetCloudOffice => "eset.cloud-office",
            Self::EsetCloudOfficeWindow => "eset.cloud-office.window",
            Self::EsetIncidents => "eset.incidents",
            Self::EsetIncidentsGet => "eset.incidents.get",
            Self::EsetDetails => "eset.details",
            Self::EsetDevices => "eset.devices",
            Self::EntraToken => "entra.token",
            Self::Ingestion => "ingestion",
        }
    }

    /// True for the endpoints that ask for an ESET access token.
    pub(crate) fn is_eset_data(self) -> bool {
        !matches!(self, Self::EsetToken | Self::EntraToken | Self::Ingestion)
    }

    fn takes(self, group: Group) -> bool {
        let delta = matches!(self, Self::EsetDetections | Self::EsetCloudOffice);
        let feed = delta
            || matches!(
                self,
                Self::EsetDetectionsWindow | Self::EsetCloudOfficeWindow
            );
        match group {
            Group::Every => true,
            Group::Body => self != Self::Ingestion,
            Group::Eset => !matches!(self, Self::EntraToken | Self::Ingestion),
            Group::Records => self.is_eset_data(),
            Group::List => feed || matches!(self, Self::EsetIncidents | Self::EsetDevices),
            Group::Feed => feed,
            Group::Delta => delta,
            Group::EsetToken => self == Self::EsetToken,
            Group::Ingestion => self == Self::Ingestion,
        }
    }
}

/// Which targets a kind of fault makes sense for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Every,
    Body,
    Eset,
    Records,
    List,
    Feed,
    Delta,
    EsetToken,
    Ingestion,
}

/// What a fault plays. The catalogue says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Status {
        status: u16,
        retry_after: Option<u64>,
    },
    Pending,
    PendingDead,
    PendingForever,
    PendingNoId,
    EndNull,
    EndAbsent,
    EndEmpty,
    TokenRepeated,
    PageSize(u64),
    ExpiredDelta,
    ExpiredPage,
    NoDelta,
    Rubbish,
    EmptyOk,
    Truncated,
    Cut,
    Never,
    Slow(u64),
    NineDigits,
    NullFields,
    BadRecord,
    Duplicate,
    Late,
    NoRefreshToken,
    LostAnswer,
}

/// (spelling with an example of its value, where, what it plays)
const KINDS: &[(&str, Group, &str)] = &[
    ("400", Group::Every, "the request is refused"),
    ("401", Group::Every, "the token is refused"),
    ("403", Group::Every, "access is denied"),
    ("404", Group::Every, "the thing is not there"),
    ("410", Group::Every, "the thing is gone"),
    ("413", Group::Ingestion, "the call is too large"),
    (
        "429",
        Group::Every,
        "too many calls, with no hint how long to wait",
    ),
    (
        "429-retry-after=30",
        Group::Every,
        "too many calls, with `Retry-After` in seconds",
    ),
    ("500", Group::Every, "an internal error"),
    (
        "501",
        Group::Every,
        "not implemented, as for a product without a licence",
    ),
    ("502", Group::Every, "a gateway without a backend"),
    ("503", Group::Every, "maintenance"),
    (
        "503-retry-after=30",
        Group::Every,
        "maintenance, with `Retry-After` in seconds",
    ),
    ("504", Group::Every, "a gateway that waited too long"),
    ("never", Group::Every, "the answer takes an hour"),
    ("slow=5", Group::Every, "the answer takes this many seconds"),
    (
        "rubbish",
        Group::Every,
        "200 with a web page, as from a proxy that wants a login",
    ),
    ("empty-200", Group::Body, "200 with an empty body"),
    (
        "truncated",
        Group::Body,
        "the JSON stops halfway, the connection ends cleanly",
    ),
    (
        "cut",
        Group::Body,
        "the connection dies in the middle of the body",
    ),
    (
        "lost-answer",
        Group::Ingestion,
        "the rows are taken, then the connection dies",
    ),
    (
        "202",
        Group::Eset,
        "pending; the answer is ready when asked for again",
    ),
    (
        "202-dead",
        Group::Eset,
        "pending; then the `response-id` is unknown",
    ),
    (
        "202-forever",
        Group::Eset,
        "pending; and pending whenever asked again",
    ),
    ("202-no-id", Group::Eset, "pending, without a `response-id`"),
    (
        "no-refresh-token",
        Group::EsetToken,
        "the answer holds no refresh token",
    ),
    (
        "page-token-empty",
        Group::List,
        "the last page ends with `\"nextPageToken\": \"\"`",
    ),
    (
        "page-token-null",
        Group::List,
        "the last page ends with `\"nextPageToken\": null`",
    ),
    (
        "page-token-absent",
        Group::List,
        "the last page has no `nextPageToken`",
    ),
    (
        "page-token-repeated",
        Group::List,
        "a page names its own token as the next one",
    ),
    (
        "page-size=2",
        Group::List,
        "pages are smaller than was asked for",
    ),
    (
        "expired-page",
        Group::List,
        "400 to a call with a `pageToken`",
    ),
    (
        "expired-delta",
        Group::Delta,
        "400 to a call with a `deltaToken` other than `latest`",
    ),
    ("no-delta", Group::Delta, "404: `:listDelta` does not exist"),
    (
        "nine-digits",
        Group::Records,
        "every time has nine fraction digits",
    ),
    ("null-fields", Group::Records, "random members are null"),
    (
        "bad-record",
        Group::List,
        "adds a number and a record without a uuid",
    ),
    (
        "duplicate",
        Group::List,
        "a page repeats some of its records",
    ),
    (
        "late",
        Group::Feed,
        "adds a record that happened 50 hours earlier",
    ),
];

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
        let kind =
            kind(name, value).ok_or_else(|| bad(format!("`{name}` is listed but not played")))?;
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

fn kind(name: &str, value: u64) -> Option<Kind> {
    Some(match name {
        "429-retry-after" => Kind::Status {
            status: 429,
            retry_after: Some(value),
        },
        "503-retry-after" => Kind::Status {
            status: 503,
            retry_after: Some(value),
        },
        "never" => Kind::Never,
        "slow" => Kind::Slow(value),
        "rubbish" => Kind::Rubbish,
        "empty-200" => Kind::EmptyOk,
        "truncated" => Kind::Truncated,
        "cut" => Kind::Cut,
        "lost-answer" => Kind::LostAnswer,
        "202" => Kind::Pending,
        "202-dead" => Kind::PendingDead,
        "202-forever" => Kind::PendingForever,
        "202-no-id" => Kind::PendingNoId,
        "no-refresh-token" => Kind::NoRefreshToken,
        "page-token-empty" => Kind::EndEmpty,
        "page-token-null" => Kind::EndNull,
        "page-token-absent" => Kind::EndAbsent,
        "page-token-repeated" => Kind::TokenRepeated,
        "page-size" => Kind::PageSize(value.max(1)),
        "expired-page" => Kind::ExpiredPage,
        "expired-delta" => Kind::ExpiredDelta,
        "no-delta" => Kind::NoDelta,
        "nine-digits" => Kind::NineDigits,
        "null-fields" => Kind::NullFields,
        "bad-record" => Kind::BadRecord,
        "duplicate" => Kind::Duplicate,
        "late" => Kind::Late,
        status => Kind::Status {
            status: status.parse().ok()?,
            retry_after: None,
        },
    })
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
