//! Vulnerabilities: by device and software, and what is known of each.

use std::time::Duration;

use super::{super::BY_MACHINE, DAILY, DAY, LIST, named, plain};
use crate::core::{
    json::if_absent::IfAbsent,
    mapping::{
        assets::{Asset, Form, Kind},
        filter::Filter,
        rule::{As, or_take, take},
        wanted::{Field, Teller},
    },
    position::{
        paging::Paging,
        record_key::KeyRule,
        window::{Pace, Passes, REWRITE},
    },
    protocol::{
        choice::Choice,
        endpoint::{Endpoint, ListQuery, Snapshot, TimeFilter},
    },
};

/// Changes of software vulnerabilities are kept for 14 days; the oldest bucket needs a margin.
const CHANGES_KEPT: Duration = Duration::from_hours(13 * 24);

const TVM_ROLES: &[&str] = &["Vulnerability.Read.All"];
const TVM_FIX: &str = "grant the app the application role `Vulnerability.Read.All` of \
     `WindowsDefenderATP`, with admin consent, or take the stream out of `DEFENDER_STREAMS`";

const VULNERABILITY_LIST: ListQuery = ListQuery {
    path: "/api/vulnerabilities/machinesVulnerabilities",
    ..LIST
};

/// Vulnerabilities by device and software, as they are now.
pub static VULNERABILITIES: Endpoint = Endpoint {
    stream: "defender.vulnerabilities",
    switch: named(&[Choice("DEFENDER_STREAMS", "vulnerabilities")]),
    narrow: Some("severity"),
    tellers: &[
        (Field::Severity, Teller::Member("severity")),
        (Field::Product, Teller::Member("productName")),
    ],
    list: VULNERABILITY_LIST,
    full_list: Some(VULNERABILITY_LIST),
    snapshot: Some(Snapshot { ignored: &[] }),
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: KeyRule {
        id: "id",
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.vulnerabilities",
    schema: Some("machine-vulnerabilities"),
    rules: &[
        take("id", "recordId", As::Name),
        take("machineId", "deviceUuid", As::Text),
        take("cveId", "typeName", As::Text),
        take("productName", "objectName", As::Text),
        take("severity", "severityLevel", As::Text),
    ],
    asset: Some(Asset {
        kind: Kind::Vulnerability,
        keys: &[],
        members: &[
            ("cveId", "cve", Form::Text),
            ("severity", "severity", Form::Text),
            ("productVendor", "vendor", Form::Text),
            ("productName", "product", Form::Text),
            ("productVersion", "version", Form::Text),
            ("fixingKbId", "fixingKb", Form::Text),
        ],
        closed: None,
    }),
    pace: DAILY,
    ..plain()
};

const CATALOGUE_LIST: ListQuery = ListQuery {
    path: "/api/vulnerabilities",
    paging: Paging::Skip { top: 8_000 },
    ..LIST
};

/// What is known of the vulnerabilities that devices are exposed to.
pub static CATALOGUE: Endpoint = Endpoint {
    stream: "defender.vulnerability-catalogue",
    switch: named(&[Choice("DEFENDER_STREAMS", "vulnerabilities")]),
    narrow: Some("severity"),
    filters: &[(&[], Filter::NotPositive("exposedMachines"))],
    tellers: &[(Field::Severity, Teller::Member("severity"))],
    list: CATALOGUE_LIST,
    full_list: Some(CATALOGUE_LIST),
    snapshot: Some(Snapshot {
        // Counted anew every day; the other stream says which devices they are.
        ignored: &["exposedMachines"],
    }),
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: KeyRule {
        id: "id",
        version: Some("updatedOn"),
        time: "updatedOn",
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.vulnerability-catalogue",
    schema: Some("vulnerability-catalogue"),
    rules: &[
        take("id", "typeName", As::Text),
        take("name", "displayName", As::Text),
        take("severity", "severityLevel", As::Text),
        take("cvssV3", "severityScore", As::NumberText),
    ],
    asset: Some(Asset {
        kind: Kind::Catalogue,
        keys: &[],
        members: &[
            ("cvssV3", "cvss", Form::Number),
            ("publicExploit", "public", Form::Flag),
            ("exploitVerified", "verified", Form::Flag),
            ("exploitInKit", "kit", Form::Flag),
        ],
        closed: None,
    }),
    pace: DAILY,
    ..plain()
};

/// Software vulnerabilities by device: all of them at first, then what changes.
pub static SOFTWARE_VULNERABILITIES: Endpoint = Endpoint {
    stream: "defender.software-vulnerabilities",
    switch: named(&[Choice("DEFENDER_STREAMS", "software-vulnerabilities")]),
    domain: BY_MACHINE,
    list: ListQuery {
        path: "/api/machines/SoftwareVulnerabilityChangesByMachine",
        filter: TimeFilter::Since("sinceTime", 6),
        parameters: &[("pageSize", "50000")],
        paging: Paging::Link,
        ..LIST
    },
    full_list: Some(ListQuery {
        path: "/api/machines/SoftwareVulnerabilitiesExport",
        parameters: &[("sasValidHours", "6")],
        paging: Paging::Files,
        // The files themselves are named by another member.
        if_absent: IfAbsent::Empty,
        ..LIST
    }),
    // Changes are written in camel case, files with capitals.
    filters: &[
        (&[], Filter::Closes("status", "Fixed")),
        (&[], Filter::Closes("Status", "Fixed")),
    ],
    tellers: &[
        (
            Field::Severity,
            Teller::Member("vulnerabilitySeverityLevel"),
        ),
        (
            Field::Severity,
            Teller::Member("VulnerabilitySeverityLevel"),
        ),
        (Field::Product, Teller::Member("softwareName")),
        (Field::Product, Teller::Member("SoftwareName")),
        (Field::DeviceGroup, Teller::Member("rbacGroupName")),
        (Field::DeviceGroup, Teller::Member("RbacGroupName")),
    ],
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: KeyRule {
        id: "id",
        version: Some("eventTimestamp"),
        time: "eventTimestamp",
        version_also: Some("status"),
        capitals: true,
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.software-vulnerabilities",
    schema: Some("software-vulnerabilities"),
    rules: &[
        take("id", "recordId", As::Name),
        or_take("Id", "recordId", As::Name),
        take("deviceId", "deviceUuid", As::Text),
        or_take("DeviceId", "deviceUuid", As::Text),
        take("deviceName", "deviceDisplayName", As::Text),
        or_take("DeviceName", "deviceDisplayName", As::Text),
        take("cveId", "typeName", As::Text),
        or_take("CveId", "typeName", As::Text),
        take("softwareName", "objectName", As::Text),
        or_take("SoftwareName", "objectName", As::Text),
        take("vulnerabilitySeverityLevel", "severityLevel", As::Text),
        or_take("VulnerabilitySeverityLevel", "severityLevel", As::Text),
        take("cvssScore", "severityScore", As::NumberText),
        or_take("CvssScore", "severityScore", As::NumberText),
        take("eventTimestamp", "occurTime", As::Text),
        or_take("EventTimestamp", "occurTime", As::Text),
        take("status", "resolved", As::Is("Fixed")),
        or_take("Status", "resolved", As::Is("Fixed")),
    ],
    pace: Pace {
        every: Duration::from_hours(6),
        delay: Duration::ZERO,
        // A bucket of six hours is published when it is over.
        lookback: Duration::from_hours(6),
        sweep: Duration::ZERO,
        step: Duration::from_hours(20 * 24),
        history: DAY,
        passes: Passes::Behind(CHANGES_KEPT),
        rewrite: REWRITE,
    },
    ..plain()
};
