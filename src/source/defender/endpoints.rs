//! The streams as data. Shapes: defender.md 2, after Microsoft's reference.

use std::time::Duration;

use super::evidence;
use crate::core::{
    assets::{Asset, Form, Key, Kind},
    columns,
    endpoint::{Endpoint, Sameness, Snapshot, TimeFilter, WindowQuery},
    mapping::{As, Rule, or_take, take, within},
    paging::Paging,
    record::Identity,
    window::{Pace, Passes, REWRITE},
};

/// `providerName` of all rows.
pub(crate) const PROVIDER: &str = "Microsoft Defender";

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A page of Graph's lists. It gives 1,000 at most, and skips no more than 500 inside an instant.
const GRAPH_ALERTS: u32 = 500;

/// Changes of software vulnerabilities are kept for 14 days; the oldest bucket needs a margin.
const CHANGES_KEPT: Duration = Duration::from_hours(13 * 24);

/// A list that is followed by the time of the last update, so that a closing lands.
const UPDATES: Pace = Pace {
    every: MINUTE,
    // An update that is being written may become visible behind a later one.
    delay: Duration::from_secs(30),
    lookback: Duration::from_mins(15),
    step: DAY,
    history: DAY,
    passes: Passes::None,
    rewrite: REWRITE,
};

/// A list that is read as a whole once a day.
const DAILY: Pace = Pace {
    every: Duration::from_mins(5),
    delay: Duration::ZERO,
    lookback: Duration::ZERO,
    step: DAY,
    history: DAY,
    passes: Passes::Only(DAY),
    rewrite: REWRITE,
};

const LIST: WindowQuery = WindowQuery {
    path: "",
    records: "value",
    filter: TimeFilter::None,
    parameters: &[],
    paging: Paging::Skip { top: 10_000 },
};

/// What most endpoints have in common.
pub(crate) const fn plain() -> Endpoint {
    Endpoint {
        stream: "",
        provider: PROVIDER,
        domain: super::MDE,
        feed: None,
        window: LIST,
        pass: None,
        snapshot: None,
        roles: &[],
        fix: "",
        off_fix: "get the licence or set the product up, or take the stream out of `DEFENDER_STREAMS`; it \
              is asked for again after a day",
        rest: DAY,
        table: &columns::DETECTIONS,
        schema: None,
        identity: Identity::PLAIN,
        sameness: Sameness::IdAndVersion,
        fingerprints: "",
        rules: &[],
        details: &[],
        constants: &[],
        picks: None,
        asset: None,
        pace: UPDATES,
    }
}

const MACHINE_LIST: WindowQuery = WindowQuery {
    path: "/api/machines",
    filter: TimeFilter::OData("lastSeen"),
    ..LIST
};

/// Devices, as they are now.
pub static MACHINES: Endpoint = Endpoint {
    stream: "defender.machines",
    window: MACHINE_LIST,
    pass: Some(MACHINE_LIST),
    snapshot: Some(Snapshot {
        // Set by every report of a device.
        ignored: &["lastSeen"],
    }),
    roles: &["Machine.Read.All", "Machine.ReadWrite.All"],
    fix: "grant the app the application role `Machine.Read.All` of `WindowsDefenderATP`, with admin \
          consent, or take `machines` out of `DEFENDER_STREAMS`",
    identity: Identity {
        id: "id",
        time: "lastSeen",
        ..Identity::PLAIN
    },
    fingerprints: "defender.machines",
    schema: Some("machines"),
    rules: &[
        take("id", "deviceUuid", As::Text),
        take("computerDnsName", "deviceDisplayName", As::Text),
    ],
    asset: Some(Asset {
        kind: Kind::Machine,
        keys: &[
            Key::Text("id"),
            Key::Text("aadDeviceId"),
            Key::Host("computerDnsName"),
            Key::Address("lastIpAddress"),
            Key::Addresses("ipAddresses", "ipAddress"),
        ],
        members: &[
            ("computerDnsName", "name", Form::Text),
            ("aadDeviceId", "aadDeviceId", Form::Text),
            ("ipAddresses", "addresses", Form::Addresses),
            // Whole offices share it: a search for it would find them all.
            ("lastExternalIpAddress", "externalAddress", Form::Text),
            ("osPlatform", "osPlatform", Form::Text),
            ("version", "osVersion", Form::Text),
            ("osBuild", "osBuild", Form::Text),
            ("firstSeen", "firstSeen", Form::Text),
            ("lastSeen", "lastSeen", Form::Text),
            ("healthStatus", "health", Form::Text),
            ("onboardingStatus", "onboarding", Form::Text),
            ("deviceValue", "value", Form::Text),
            ("rbacGroupName", "group", Form::Text),
            ("machineTags", "tags", Form::Texts),
            ("riskScore", "risk", Form::Text),
            ("exposureLevel", "exposure", Form::Text),
            ("mergedIntoMachineId", "mergedInto", Form::Text),
        ],
        closed: None,
    }),
    pace: Pace {
        every: HOUR,
        delay: Duration::ZERO,
        lookback: HOUR,
        passes: Passes::Beside(DAY),
        ..UPDATES
    },
    ..plain()
};

const TVM_ROLES: &[&str] = &["Vulnerability.Read.All"];
const TVM_FIX: &str = "grant the app the application role `Vulnerability.Read.All` of \
     `WindowsDefenderATP`, with admin consent, or take the stream out of `DEFENDER_STREAMS`";

const VULNERABILITY_LIST: WindowQuery = WindowQuery {
    path: "/api/vulnerabilities/machinesVulnerabilities",
    ..LIST
};

/// Vulnerabilities by device and software, as they are now.
pub static VULNERABILITIES: Endpoint = Endpoint {
    stream: "defender.vulnerabilities",
    window: VULNERABILITY_LIST,
    pass: Some(VULNERABILITY_LIST),
    snapshot: Some(Snapshot { ignored: &[] }),
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: Identity {
        id: "id",
        ..Identity::PLAIN
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

const CATALOGUE_LIST: WindowQuery = WindowQuery {
    path: "/api/vulnerabilities",
    paging: Paging::Skip { top: 8_000 },
    ..LIST
};

/// What is known of the vulnerabilities that devices are exposed to.
pub static CATALOGUE: Endpoint = Endpoint {
    stream: "defender.vulnerability-catalogue",
    window: CATALOGUE_LIST,
    pass: Some(CATALOGUE_LIST),
    snapshot: Some(Snapshot {
        // Counted anew every day; the other stream says which devices they are.
        ignored: &["exposedMachines"],
    }),
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: Identity {
        id: "id",
        version: Some("updatedOn"),
        time: "updatedOn",
        ..Identity::PLAIN
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
    domain: super::BY_MACHINE,
    window: WindowQuery {
        path: "/api/machines/SoftwareVulnerabilityChangesByMachine",
        filter: TimeFilter::Since("sinceTime", 6),
        parameters: &[("pageSize", "50000")],
        paging: Paging::Link,
        ..LIST
    },
    pass: Some(WindowQuery {
        path: "/api/machines/SoftwareVulnerabilitiesExport",
        parameters: &[("sasValidHours", "6")],
        paging: Paging::Files,
        ..LIST
    }),
    roles: TVM_ROLES,
    fix: TVM_FIX,
    identity: Identity {
        id: "id",
        version: Some("eventTimestamp"),
        time: "eventTimestamp",
        version_also: Some("status"),
        capitals: true,
        ..Identity::PLAIN
    },
    fingerprints: "defender.software-vulnerabilities",
    schema: Some("software-vulnerabilities"),
    // Changes are written in camel case, files with capitals.
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
        step: Duration::from_hours(20 * 24),
        history: DAY,
        passes: Passes::Behind(CHANGES_KEPT),
        rewrite: REWRITE,
    },
    ..plain()
};

const OLDEST_FIRST: &[(&str, &str)] = &[("$orderby", "lastUpdateDateTime asc")];

/// Alerts of all Defender products.
pub static ALERTS: Endpoint = Endpoint {
    stream: "defender.alerts",
    domain: super::GRAPH,
    window: WindowQuery {
        path: "/v1.0/security/alerts_v2",
        filter: TimeFilter::OData("lastUpdateDateTime"),
        parameters: OLDEST_FIRST,
        paging: Paging::Boundary {
            top: GRAPH_ALERTS,
            ordered: true,
        },
        ..LIST
    },
    roles: &[
        "SecurityAlert.Read.All",
        "SecurityAlert.ReadWrite.All",
        "SecurityIncident.Read.All",
        "SecurityIncident.ReadWrite.All",
    ],
    fix: "grant the app the application role `SecurityAlert.Read.All` of Microsoft Graph, with admin \
          consent, or set `DEFENDER_ALERTS_API=mde` for an app that holds `Alert.Read.All`",
    identity: Identity {
        id: "id",
        version: Some("lastUpdateDateTime"),
        time: "lastUpdateDateTime",
        ..Identity::PLAIN
    },
    fingerprints: "defender.alerts",
    schema: Some("alerts"),
    rules: &[
        take("id", "detectionUuid", As::Json),
        take("title", "displayName", As::Text),
        take("category", "category", As::Text),
        take("severity", "severityLevel", As::Text),
        take("detectionSource", "typeName", As::Text),
        take("detectorId", "edrRuleUuid", As::Text),
        take("firstActivityDateTime", "occurTime", As::Text),
        take("status", "resolved", As::Is("resolved")),
        take("evidence", "context", As::Inside("evidence")),
    ],
    picks: Some(evidence::GRAPH),
    asset: Some(Asset {
        kind: Kind::Alert,
        keys: &[Key::Each("evidence", "mdeDeviceId")],
        members: &[
            ("title", "title", Form::Text),
            ("severity", "severity", Form::Text),
            ("status", "status", Form::Text),
            ("category", "category", Form::Text),
            ("serviceSource", "product", Form::Text),
            ("createdDateTime", "created", Form::Text),
            ("lastUpdateDateTime", "updated", Form::Text),
            ("incidentId", "incident", Form::Text),
            ("alertWebUrl", "url", Form::Text),
        ],
        closed: Some(("status", "resolved")),
    }),
    ..plain()
};

/// The same alerts, as far as Defender for Endpoint has them.
pub static MDE_ALERTS: Endpoint = Endpoint {
    stream: "defender.alerts",
    fingerprints: "defender.alerts.mde",
    schema: Some("mde-alerts"),
    domain: super::MDE,
    window: WindowQuery {
        path: "/api/alerts",
        filter: TimeFilter::OData("lastUpdateTime"),
        parameters: &[("$orderby", "lastUpdateTime asc"), ("$expand", "evidence")],
        paging: Paging::Boundary {
            top: 1_000,
            ordered: true,
        },
        ..LIST
    },
    roles: &["Alert.Read.All", "Alert.ReadWrite.All"],
    fix: "grant the app the application role `Alert.Read.All` of `WindowsDefenderATP`, with admin \
          consent, or set `DEFENDER_ALERTS_API=graph` for an app that holds `SecurityAlert.Read.All`",
    identity: Identity {
        id: "id",
        version: Some("lastUpdateTime"),
        time: "lastUpdateTime",
        ..Identity::PLAIN
    },
    rules: &[
        take("id", "detectionUuid", As::Json),
        take("title", "displayName", As::Text),
        take("category", "category", As::Text),
        take("severity", "severityLevel", As::Text),
        take("detectionSource", "typeName", As::Text),
        take("detectorId", "edrRuleUuid", As::Text),
        take("firstEventTime", "occurTime", As::Text),
        take("machineId", "deviceUuid", As::Text),
        take("computerDnsName", "deviceDisplayName", As::Text),
        within(
            "relatedUser",
            None,
            &[take("userName", "userNameBase", As::Text)],
        ),
        take("status", "resolved", As::Is("Resolved")),
        take("evidence", "context", As::Inside("evidence")),
    ],
    picks: Some(evidence::MDE),
    asset: Some(Asset {
        kind: Kind::Alert,
        keys: &[Key::Text("machineId")],
        members: &[
            ("title", "title", Form::Text),
            ("severity", "severity", Form::Text),
            ("status", "status", Form::Text),
            ("category", "category", Form::Text),
            ("alertCreationTime", "created", Form::Text),
            ("lastUpdateTime", "updated", Form::Text),
            ("incidentId", "incident", Form::Text),
        ],
        closed: Some(("status", "resolved")),
    }),
    ..plain()
};

const INCIDENT: &[Rule] = &[
    take("id", "uuid", As::Text),
    take("displayName", "displayName", As::Text),
    take("description", "description", As::Text),
    take("severity", "severity", As::Text),
    take("assignedTo", "assigneeUuid", As::Text),
    take("status", "status", As::Text),
    take("createdDateTime", "createTime", As::Time),
    take("lastUpdateDateTime", "updateTime", As::Time),
    take("customTags", "tags", As::Json),
    take("classification", "resolveReason", As::Text),
];

const INCIDENT_LIST: WindowQuery = WindowQuery {
    path: "/v1.0/security/incidents",
    filter: TimeFilter::OData("lastUpdateDateTime"),
    parameters: OLDEST_FIRST,
    // More than 50 are refused by some tenants.
    paging: Paging::Boundary {
        top: 50,
        ordered: true,
    },
    ..LIST
};

const fn incidents() -> Endpoint {
    Endpoint {
        stream: "defender.incidents",
        domain: super::GRAPH,
        window: INCIDENT_LIST,
        roles: &[
            "SecurityIncident.Read.All",
            "SecurityIncident.ReadWrite.All",
        ],
        fix: "grant the app the application role `SecurityIncident.Read.All` of Microsoft Graph, with \
          admin consent, or set `DEFENDER_INCIDENTS_API=xdr` for an app that holds \
          `Incident.Read.All`",
        table: &columns::INCIDENTS,
        identity: Identity {
            id: "id",
            version: Some("lastUpdateDateTime"),
            time: "lastUpdateDateTime",
            ..Identity::PLAIN
        },
        fingerprints: "defender.incidents",
        schema: Some("incidents"),
        rules: INCIDENT,
        ..plain()
    }
}

/// Incidents, each version of them.
pub static INCIDENTS: Endpoint = incidents();

/// The same with their alerts.
pub static INCIDENTS_WITH_ALERTS: Endpoint = Endpoint {
    window: WindowQuery {
        parameters: &[
            ("$orderby", "lastUpdateDateTime asc"),
            ("$expand", "alerts"),
        ],
        ..INCIDENT_LIST
    },
    ..incidents()
};

/// The same, as the XDR API has them: always with their alerts.
pub static XDR_INCIDENTS: Endpoint = Endpoint {
    domain: super::XDR,
    window: WindowQuery {
        path: "/api/incidents",
        filter: TimeFilter::OData("lastUpdateTime"),
        // It takes no `$orderby`.
        parameters: &[],
        paging: Paging::Boundary {
            top: 100,
            ordered: false,
        },
        ..LIST
    },
    roles: &["Incident.Read.All", "Incident.ReadWrite.All"],
    fix: "grant the app the application role `Incident.Read.All` of `Microsoft Threat Protection`, \
          with admin consent, or set `DEFENDER_INCIDENTS_API=graph` for an app that holds \
          `SecurityIncident.Read.All`",
    identity: Identity {
        id: "incidentId",
        version: Some("lastUpdateTime"),
        time: "lastUpdateTime",
        ..Identity::PLAIN
    },
    fingerprints: "defender.incidents.xdr",
    schema: Some("xdr-incidents"),
    rules: &[
        take("incidentId", "uuid", As::NumberText),
        take("incidentName", "displayName", As::Text),
        take("severity", "severity", As::Text),
        take("assignedTo", "assigneeUuid", As::Text),
        take("status", "status", As::Text),
        take("createdTime", "createTime", As::Time),
        take("lastUpdateTime", "updateTime", As::Time),
        take("tags", "tags", As::Json),
        take("classification", "resolveReason", As::Text),
    ],
    ..incidents()
};

/// All endpoints, those included that stand for the same stream.
pub static ENDPOINTS: [&Endpoint; 9] = [
    &MACHINES,
    &VULNERABILITIES,
    &CATALOGUE,
    &SOFTWARE_VULNERABILITIES,
    &ALERTS,
    &MDE_ALERTS,
    &INCIDENTS,
    &INCIDENTS_WITH_ALERTS,
    &XDR_INCIDENTS,
];
