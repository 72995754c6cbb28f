//! What can be struck by a fault, and how.

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

    pub(super) fn takes(self, group: Group) -> bool {
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
pub(super) enum Group {
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
    FairUse,
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
    Stalled,
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
pub(super) const KINDS: &[(&str, Group, &str)] = &[
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
        "stalled",
        Group::Body,
        "the body stops halfway and goes on after an hour",
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
        "fair-use",
        Group::Eset,
        "slowed down after a burst: 202 and 503 in turn",
    ),
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

impl Kind {
    /// The kind of this name, as the catalogue spells it.
    pub(super) fn new(name: &str, value: u64) -> Option<Self> {
        Some(match name {
            "429-retry-after" => Self::Status {
                status: 429,
                retry_after: Some(value),
            },
            "503-retry-after" => Self::Status {
                status: 503,
                retry_after: Some(value),
            },
            "never" => Self::Never,
            "slow" => Self::Slow(value),
            "rubbish" => Self::Rubbish,
            "empty-200" => Self::EmptyOk,
            "truncated" => Self::Truncated,
            "cut" => Self::Cut,
            "stalled" => Self::Stalled,
            "lost-answer" => Self::LostAnswer,
            "202" => Self::Pending,
            "202-dead" => Self::PendingDead,
            "202-forever" => Self::PendingForever,
            "202-no-id" => Self::PendingNoId,
            "fair-use" => Self::FairUse,
            "no-refresh-token" => Self::NoRefreshToken,
            "page-token-empty" => Self::EndEmpty,
            "page-token-null" => Self::EndNull,
            "page-token-absent" => Self::EndAbsent,
            "page-token-repeated" => Self::TokenRepeated,
            "page-size" => Self::PageSize(value.max(1)),
            "expired-page" => Self::ExpiredPage,
            "expired-delta" => Self::ExpiredDelta,
            "no-delta" => Self::NoDelta,
            "nine-digits" => Self::NineDigits,
            "null-fields" => Self::NullFields,
            "bad-record" => Self::BadRecord,
            "duplicate" => Self::Duplicate,
            "late" => Self::Late,
            status => Self::Status {
                status: status.parse().ok()?,
                retry_after: None,
            },
        })
    }
}
