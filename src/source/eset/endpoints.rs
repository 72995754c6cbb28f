//! The three streams as data. Shapes: the official `OpenAPI` of `incident-management`.

use std::time::Duration;

use crate::core::{
    json::if_absent::IfAbsent,
    mapping::{
        assets::{Asset, Form, Key, Kind},
        columns,
        rule::{As, Rule, or_take, take, within},
        wanted::{Field, Teller},
    },
    position::{
        paging::Paging,
        record_key::KeyRule,
        window::{Pace, Passes, REWRITE},
    },
    protocol::{
        choice::{Choice, Switch},
        endpoint::{
            DedupKey, Endpoint, Enrich, Feed, LATE_DEVICES, LATE_UPDATES, ListQuery, Snapshot,
            TimeFilter,
        },
    },
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const DETECTION: KeyRule = KeyRule {
    id: "uuid",
    version: None,
    time: "occurTime",
    ..KeyRule::PLAIN
};

const DETECTION_PACE: Pace = Pace {
    every: MINUTE,
    delay: Duration::ZERO,
    lookback: LATE_DEVICES,
    sweep: Duration::ZERO,
    step: DAY,
    history: DAY,
    passes: Passes::None,
    rewrite: REWRITE,
};

/// The stock connector writes 1 into each row.
const GROUP_SIZE: &[(&str, &str)] = &[("groupSize", "1")];

/// Members that v1 and v2 detections have in common. (`concat!` for slices is missing in const.)
macro_rules! detection_rules {
    ($($rule:expr),* $(,)?) => {
        &[
            take("uuid", "detectionUuid", As::Json),
            take("typeName", "typeName", As::Text),
            take("objectName", "objectName", As::Text),
            take("objectTypeName", "objectTypeName", As::Text),
            take("objectHashSha1", "objectHashSha1", As::Text),
            take("objectUrl", "objectUrl", As::Text),
            take("objectSizeBytes", "objectSizeBytes", As::TextInteger),
            take("occurTime", "occurTime", As::Text),
            take("displayName", "displayName", As::Text),
            take("responses", "responses", As::Json),
            take("severityLevel", "severityLevel", As::Text),
            take("severityScore", "severityScore", As::NumberText),
            take("category", "category", As::Text),
            take("edrRuleUuid", "edrRuleUuid", As::Text),
            take("note", "note", As::Text),
            take("resolved", "resolved", As::Boolean),
            take("cloudOfficeTenantUuid", "cloudOfficeTenantUuid", As::Text),
            take("scanUuid", "scanUuid", As::Text),
            take("triggeringEvent", "triggeringEvent", As::Json),
            $($rule),*
        ]
    };
}

/// A v1 detection. Live ones sometimes carry the `device` and `userName` of v2; a device of its
/// own wins over the context's.
pub(super) const V1: &[Rule] = detection_rules![
    take("networkCommunication", "networkCommunication", As::Json),
    within(
        "device",
        None,
        &[
            or_take("uuid", "deviceUuid", As::Text),
            take("displayName", "deviceDisplayName", As::Text),
        ],
    ),
    within(
        "context",
        Some("context"),
        &[
            take("deviceUuid", "deviceUuid", As::Text),
            take("userName", "userNameBase", As::Text),
            within("process", None, &[take("path", "processPath", As::Text)]),
        ],
    ),
    or_take("userName", "userNameBase", As::Text),
];

/// A v2 detection.
pub(super) const V2: &[Rule] = detection_rules![
    take(
        "networkTraffic",
        "networkCommunication",
        As::Renamed(&[("protocolKeyword", "protocolName")]),
    ),
    take("circumstances", "context", As::Inside("circumstances")),
    take("userName", "userNameBase", As::Text),
    within(
        "device",
        None,
        &[
            take("uuid", "deviceUuid", As::Text),
            take("displayName", "deviceDisplayName", As::Text),
        ],
    ),
    within(
        "process",
        None,
        &[
            take("path", "processPath", As::Text),
            take("uuid", "processUuid", As::Text),
            take("commandLine", "processCommandline", As::Text),
        ],
    ),
];

const INCIDENT: &[Rule] = &[
    take("uuid", "uuid", As::Text),
    take("displayName", "displayName", As::Text),
    take("description", "description", As::Text),
    take("severity", "severity", As::Text),
    take("assigneeUuid", "assigneeUuid", As::Text),
    take("triageDuration", "triageDuration", As::Text),
    take("status", "status", As::Text),
    take("detectionUuids", "detectionUuids", As::Json),
    take("createTime", "createTime", As::Time),
    take("updateTime", "updateTime", As::Time),
    take("deviceUuids", "deviceUuids", As::Json),
    take("tags", "tags", As::Json),
    take("resolveReason", "resolveReason", As::Text),
    take("metrics", "metrics", As::Json),
];

/// The list leaves out which detections and devices an incident is about.
const INCIDENT_DETAILS: &[Rule] = &[
    take("detectionUuids", "detectionUuids", As::Json),
    take("deviceUuids", "deviceUuids", As::Json),
];

/// `providerName` of all rows.
pub const PROVIDER: &str = "ESET";

const LIST: ListQuery = ListQuery {
    path: "",
    records: "",
    if_absent: IfAbsent::Empty,
    filter: TimeFilter::Parameters("startTime", "endTime"),
    parameters: &[],
    droppable: None,
    paging: Paging::Token,
};

/// A base for endpoints: what most of them have in common.
const fn plain() -> Endpoint {
    Endpoint {
        stream: "",
        provider: PROVIDER,
        switch: Switch::NONE,
        domain: "incident-management",
        feed: None,
        list: LIST,
        full_list: None,
        narrow: None,
        enrich: Enrich::Nothing,
        filters: &[],
        tellers: &[],
        opened: None,
        snapshot: None,
        roles: &[],
        extra_roles: &[],
        fix: "give the API user read access to this product, or take the product out of `ESET_PRODUCTS`",
        off_fix: "this tenant does not offer it; take the product out of `ESET_PRODUCTS`, or \
             (Cloud Office Security) log in to it once as the API user",
        retry_off_after: Duration::ZERO,
        table: &columns::DETECTIONS,
        schema: None,
        identity: DETECTION,
        dedup_key: DedupKey::Id,
        fingerprints: "",
        rules: &[],
        details: &[],
        constants: &[],
        from_list: None,
        collect: &[],
        asset: None,
        pace: DETECTION_PACE,
    }
}

/// The products that devices report to.
const OF_DEVICES: &[Choice] = &[
    Choice("ESET_PRODUCTS", "protect"),
    Choice("ESET_PRODUCTS", "inspect"),
];

const DETECTIONS_WANTED: &[Choice] = &[Choice("ESET_STREAMS", "detections")];

const OF_DETECTIONS: &[(Field, Teller)] = &[
    (Field::Severity, Teller::Member("severityLevel")),
    (Field::Category, Teller::Member("category")),
];

/// Detections of ESET PROTECT and ESET Inspect.
pub static DETECTIONS: Endpoint = Endpoint {
    stream: "eset.detections",
    switch: Switch {
        any: OF_DEVICES,
        all: DETECTIONS_WANTED,
    },
    feed: Some(Feed {
        path: "/v1/detections:listDelta",
        records: "createdDetections",
    }),
    list: ListQuery {
        path: "/v1/detections",
        records: "detections",
        ..LIST
    },
    enrich: Enrich::Detections,
    // The v2 feed may carry the same detections.
    fingerprints: "eset.detections",
    tellers: OF_DETECTIONS,
    rules: V1,
    details: V2,
    constants: GROUP_SIZE,
    ..plain()
};

/// Detections of ESET Cloud Office Security.
pub static CLOUD_OFFICE: Endpoint = Endpoint {
    stream: "eset.cloud-office",
    switch: Switch {
        any: &[Choice("ESET_PRODUCTS", "cloud-office")],
        all: DETECTIONS_WANTED,
    },
    feed: Some(Feed {
        path: "/v2/detections:listDelta",
        records: "createdDetections",
    }),
    list: ListQuery {
        path: "/v2/detections",
        records: "detections",
        ..LIST
    },
    enrich: Enrich::Devices,
    fingerprints: "eset.detections",
    tellers: OF_DETECTIONS,
    rules: V2,
    constants: GROUP_SIZE,
    ..plain()
};

/// Incidents, each version of them.
pub static INCIDENTS: Endpoint = Endpoint {
    stream: "eset.incidents",
    switch: Switch {
        any: OF_DEVICES,
        all: &[Choice("ESET_STREAMS", "incidents")],
    },
    list: ListQuery {
        path: "/v2/incidents",
        records: "incidents",
        filter: TimeFilter::Cel("incident.update_time"),
        ..LIST
    },
    enrich: Enrich::Incidents,
    tellers: &[
        (Field::Severity, Teller::Member("severity")),
        (Field::Status, Teller::Member("status")),
    ],
    opened: Some("createTime"),
    table: &columns::INCIDENTS,
    identity: KeyRule {
        id: "uuid",
        version: Some("updateTime"),
        time: "updateTime",
        ..KeyRule::PLAIN
    },
    dedup_key: DedupKey::IdAndVersion,
    fingerprints: "eset.incidents",
    rules: INCIDENT,
    details: INCIDENT_DETAILS,
    pace: Pace {
        every: MINUTE,
        // An update that is being written may become visible behind a later one.
        delay: Duration::from_secs(30),
        lookback: HOUR,
        sweep: LATE_UPDATES,
        ..DETECTION_PACE
    },
    ..plain()
};

/// Devices, as they are now.
pub static DEVICES: Endpoint = Endpoint {
    stream: "eset.devices",
    switch: Switch {
        any: &[Choice("ESET_STREAMS", "devices")],
        all: &[],
    },
    domain: "device-management",
    tellers: &[
        (Field::Status, Teller::Member("functionalityStatus")),
        (Field::DeviceGroup, Teller::Member("parentGroupUuid")),
    ],
    list: DEVICE_LIST,
    full_list: Some(DEVICE_LIST),
    snapshot: Some(Snapshot {
        // Set by every report of a device.
        ignored: &["lastSyncTime", "etag"],
    }),
    fix: "give the API user read access to devices, or take `devices` out of `ESET_STREAMS`",
    off_fix: "this tenant does not offer it; take `devices` out of `ESET_STREAMS`",
    identity: KeyRule {
        id: "uuid",
        time: "lastSyncTime",
        ..KeyRule::PLAIN
    },
    dedup_key: DedupKey::IdAndVersion,
    fingerprints: "eset.devices",
    rules: &[
        take("uuid", "deviceUuid", As::Text),
        take("displayName", "deviceDisplayName", As::Text),
    ],
    asset: Some(Asset {
        kind: Kind::Machine,
        keys: &[
            Key::Text("uuid"),
            Key::Host("displayName"),
            Key::Host("originalDisplayName"),
            Key::Address("primaryLocalIpAddress"),
        ],
        members: &[
            ("displayName", "name", Form::Text),
            ("primaryLocalIpAddress", "addresses", Form::Addresses),
            // Whole offices share it: a search for it would find them all.
            ("publicIpAddress", "externalAddress", Form::Text),
            ("lastSyncTime", "lastSeen", Form::Text),
            ("functionalityStatus", "health", Form::Text),
            ("enrollmentStatus", "onboarding", Form::Text),
            ("parentGroupUuid", "group", Form::Text),
            ("tags", "tags", Form::Texts),
        ],
        closed: None,
    }),
    pace: Pace {
        every: HOUR,
        lookback: Duration::ZERO,
        passes: Passes::Only(HOUR),
        ..DETECTION_PACE
    },
    ..plain()
};

/// The API knows no change since a time: all of them are read.
const DEVICE_LIST: ListQuery = ListQuery {
    path: "/v1/devices",
    records: "devices",
    filter: TimeFilter::None,
    ..LIST
};

/// All streams of ESET, in the order in which they begin.
pub static STREAMS: [&Endpoint; 4] = [&DETECTIONS, &CLOUD_OFFICE, &INCIDENTS, &DEVICES];
