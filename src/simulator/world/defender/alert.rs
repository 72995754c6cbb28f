//! Alerts: each is raised, worked on and resolved, alone or together with its incident. One alert
//! can be told in the words of Graph, of Defender for Endpoint and of Defender XDR.

use serde_json::{Value, json};

use super::{Defender, Incident, evidence, ticks};
use crate::simulator::{
    dice::Dice,
    world::{
        lane::{DAY, HOUR, MINUTE, SECOND},
        words,
    },
};

/// No alert changes later than this after it was raised.
pub(super) const LIFE: i64 = 12 * DAY;

/// What raised it: (title, category, technique, severity).
const ENDPOINT: [(&str, &str, &str, &str); 8] = [
    (
        "Suspicious script started by an office program",
        "Execution",
        "T1059.001",
        "Medium",
    ),
    (
        "'Marbleclaw' malware was prevented",
        "Malware",
        "T1204.002",
        "Informational",
    ),
    (
        "Credential store was read",
        "CredentialAccess",
        "T1003.001",
        "High",
    ),
    ("Hidden file was run", "DefenseEvasion", "T1564.001", "Low"),
    (
        "Scheduled task was made from afar",
        "Persistence",
        "T1053.005",
        "Medium",
    ),
    (
        "Rare program called a new domain",
        "CommandAndControl",
        "T1071.001",
        "Medium",
    ),
    (
        "Many files were renamed within seconds",
        "Ransomware",
        "T1486",
        "High",
    ),
    (
        "Connection to a blocked address",
        "SuspiciousActivity",
        "T1566.002",
        "Informational",
    ),
];
const ELSEWHERE: [(&str, &str, &str, &str); 4] = [
    (
        "Message with a prepared link was delivered",
        "InitialAccess",
        "T1566.002",
        "Informational",
    ),
    (
        "Logon from two countries within an hour",
        "InitialAccess",
        "T1078",
        "Medium",
    ),
    (
        "Mass download by a single user",
        "Exfiltration",
        "T1567",
        "Medium",
    ),
    (
        "Rule of the company's own matched",
        "SuspiciousActivity",
        "T1059",
        "Low",
    ),
];

/// (Graph's service, in XDR's words, Graph's source, in MDE's and XDR's words); the first three
/// speak for endpoints.
const SOURCES: [(&str, &str, &str, &str); 10] = [
    (
        "microsoftDefenderForEndpoint",
        "MicrosoftDefenderATP",
        "antivirus",
        "WindowsDefenderAv",
    ),
    (
        "microsoftDefenderForEndpoint",
        "MicrosoftDefenderATP",
        "microsoftDefenderForEndpoint",
        "WindowsDefenderAtp",
    ),
    (
        "microsoftDefenderForEndpoint",
        "MicrosoftDefenderATP",
        "smartScreen",
        "WindowsDefenderSmartScreen",
    ),
    (
        "microsoftDefenderForOffice365",
        "OfficeATP",
        "microsoftDefenderForOffice365",
        "OfficeATP",
    ),
    (
        "microsoftDefenderForIdentity",
        "AzureATP",
        "microsoftDefenderForIdentity",
        "AzureATP",
    ),
    (
        "microsoftDefenderForCloudApps",
        "MicrosoftCloudAppSecurity",
        "cloudAppSecurity",
        "MCAS",
    ),
    (
        "microsoft365Defender",
        "MicrosoftThreatProtection",
        "microsoft365Defender",
        "MTP",
    ),
    (
        "microsoftDefenderForCloud",
        "MicrosoftDefenderForCloud",
        "microsoftDefenderForServers",
        "MicrosoftDefenderForServers",
    ),
    (
        "microsoftSentinel",
        "MicrosoftSentinel",
        "scheduledAlerts",
        "ScheduledAlerts",
    ),
    (
        "microsoftSentinel",
        "MicrosoftSentinel",
        "nrtAlerts",
        "NrtAlerts",
    ),
];

/// Members of enums that a client has to ask for.
const GATED: [&str; 9] = [
    "microsoftDefenderForCloud",
    "microsoftSentinel",
    "microsoftInsiderRiskManagement",
    "microsoftThreatIntelligence",
    "microsoftSecurityForAI",
    "microsoftDefenderForServers",
    "scheduledAlerts",
    "nrtAlerts",
    "awaitingAction",
];

/// What stands in their place.
const UNKNOWN: &str = "unknownFutureValue";

/// An alert as it stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) number: u64,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    /// `New`, `InProgress` or `Resolved`.
    pub(crate) status: &'static str,
}

impl Defender {
    /// The steps of an alert: raised, taken up, resolved.
    pub(super) fn alert_steps(&self, number: u64) -> Vec<Alert> {
        let mut dice = Dice::new(self.seed, &[0xa1e0, number]);
        let created = ticks::cut(self.alerts.arrival(number), dice.next());
        let step = |updated, status| Alert {
            number,
            created,
            updated,
            status,
        };
        let mut steps = vec![step(created, "New")];
        let mut last = created;
        let later = |dice: &mut Dice, low: i64, high: i64| {
            let gap = dice
                .range(low.unsigned_abs(), high.unsigned_abs())
                .cast_signed();
            // Always later than the step before, whatever is cut off.
            ticks::cut(last + gap, dice.next())
        };
        if dice.below(4) > 0 {
            let taken = later(&mut dice, 2 * MINUTE, 3 * HOUR);
            steps.push(step(taken, "InProgress"));
            last = taken;
        }
        if !dice.one_in(10) {
            let gap = dice.range(HOUR.unsigned_abs(), (40 * HOUR).unsigned_abs());
            let own = ticks::cut(last + gap.cast_signed(), dice.next());
            // Who closes an incident resolves what is still open in it, all at one time.
            let closed = self.incident_closed(self.incident_of(number));
            let together = closed.filter(|closed| *closed > last + SECOND);
            steps.push(step(together.unwrap_or(own), "Resolved"));
        }
        steps
    }

    /// The incident that an alert belongs to: one of the four latest when it was raised.
    pub(crate) fn incident_of(&self, alert: u64) -> u64 {
        let known = self.incidents.known(self.alerts.arrival(alert));
        known.saturating_sub(1 + self.hash(&[0xa1e1, alert]) % 4)
    }

    /// The alerts of an incident that were raised until `now`.
    pub(crate) fn alerts_of(&self, incident: u64, now: i64) -> impl Iterator<Item = Alert> {
        // An alert goes to one of the four latest incidents; the first takes what comes before it.
        let begins = |incident| self.alerts.arriving(self.incidents.arrival(incident));
        let from = if incident == 0 { 0 } else { begins(incident) };
        let to = begins(incident + 4).min(self.alerts.known(now));
        (from..to)
            .filter(move |number| self.incident_of(*number) == incident)
            .filter_map(move |number| self.alert_at(number, now))
    }

    /// The alert as it stands at `now`, when it was raised.
    pub(crate) fn alert_at(&self, number: u64, now: i64) -> Option<Alert> {
        let steps = self.alert_steps(number).into_iter();
        steps.take_while(|alert| alert.updated <= now).last()
    }

    /// Every alert that was raised by `now` and may have been updated at `from` or later.
    pub(crate) fn alerts_since(&self, from: i64, now: i64) -> impl Iterator<Item = Alert> {
        let first = self.alerts.arriving(from.saturating_sub(LIFE));
        (first..self.alerts.known(now)).filter_map(move |number| self.alert_at(number, now))
    }

    /// The id of an alert.
    pub(crate) fn alert_id(&self, number: u64) -> String {
        let bits = self.hash(&[0xa1e2, number]);
        format!(
            "da{}_{}",
            638_000_000_000_000_000 + number * 1_000_003,
            bits >> 33
        )
    }

    fn source(&self, number: u64) -> usize {
        let bits = self.hash(&[0xa1e3, number]);
        match bits % 10 {
            0..=6 => usize::try_from((bits >> 8) % 3).unwrap_or(0),
            _ => 3 + usize::try_from((bits >> 8) % 7).unwrap_or(0),
        }
    }

    /// Whether Defender for Endpoint has raised it, so that its own API knows it.
    pub(crate) fn is_endpoint_alert(&self, number: u64) -> bool {
        self.source(number) < 3
    }

    fn facts(&self, alert: Alert) -> Facts {
        let mut dice = Dice::new(self.seed, &[0xa1e4, alert.number]);
        let source = self.source(alert.number);
        let kinds = if source < 3 {
            &ENDPOINT[..]
        } else {
            &ELSEWHERE[..]
        };
        let (title, category, technique, severity) = *dice.pick(kinds);
        let first = alert.created - dice.range(20, 3000).cast_signed() * SECOND;
        let resolved = alert.status == "Resolved";
        let verdict = *dice.pick(&[
            ("TruePositive", "Malware"),
            ("FalsePositive", "NotMalicious"),
            ("InformationalExpectedActivity", "LineOfBusinessApplication"),
        ]);
        // A few machines have most of the trouble.
        let one = dice.below(self.estate.machines.min(super::super::DEVICES));
        let machine = one.min(dice.below(self.estate.machines.min(super::super::DEVICES)));
        Facts {
            source: SOURCES[source],
            title,
            category,
            technique,
            severity,
            first,
            last: alert.created - dice.range(1, 19).cast_signed() * SECOND,
            verdict: resolved.then_some(verdict),
            assigned: (alert.status != "New")
                .then(|| format!("analyst.{}@{}", dice.below(6), super::company::DOMAIN)),
            machine: (source < 3).then_some(machine),
            family: title.contains("Marbleclaw").then_some("Marbleclaw"),
            text: words::prose(&mut dice, 140),
            investigation: dice.one_in(3).then(|| 5000 + alert.number),
            dice,
        }
    }

    /// (title, category, severity, service, source, technique) in the words of hunting.
    pub(super) fn alert_header(&self, number: u64) -> [&'static str; 6] {
        let created = self.alerts.arrival(number);
        let alert = Alert {
            number,
            created,
            updated: created,
            status: "New",
        };
        let facts = self.facts(alert);
        let (_, service, _, source) = facts.source;
        [
            facts.title,
            facts.category,
            facts.severity,
            service,
            source,
            facts.technique,
        ]
    }

    /// The record of Graph; `gated` hides what a client has to ask for.
    pub(crate) fn alert_graph(&self, alert: Alert, gated: bool) -> Value {
        let mut facts = self.facts(alert);
        let id = self.alert_id(alert.number);
        let incident = Incident::id(self.incident_of(alert.number));
        let shown = |name: &'static str| if gated { hide(name) } else { name };
        let evidence = self.evidence(alert, &mut facts);
        json!({
            "id": id,
            "providerAlertId": id,
            "incidentId": incident.to_string(),
            "status": camel(alert.status),
            "severity": camel(facts.severity),
            "classification": facts.verdict.map_or_else(|| "unknown".to_owned(), |verdict| camel(verdict.0)),
            "determination": facts.verdict.map_or_else(|| "unknown".to_owned(), |verdict| camel(verdict.1)),
            "serviceSource": shown(facts.source.0),
            "detectionSource": shown(facts.source.2),
            "productName": facts.source.1,
            "detectorId": self.ids.uuid(super::Kind::Rule, 700 + alert.number % 40),
            "alertPolicyId": null,
            "tenantId": self.tenant,
            "title": facts.title,
            "description": facts.text,
            "recommendedActions": "Look at the machine and isolate it if in doubt.",
            "category": facts.category,
            "categories": [facts.category],
            "assignedTo": facts.assigned,
            "alertWebUrl": format!("https://security.example/alerts/{id}?tid={}", self.tenant),
            "incidentWebUrl": format!("https://security.example/incidents/{incident}?tid={}", self.tenant),
            "actorDisplayName": null,
            "threatDisplayName": facts.family,
            "threatFamilyName": facts.family,
            "mitreTechniques": [facts.technique],
            "createdDateTime": ticks::text(alert.created),
            "lastUpdateDateTime": ticks::text(alert.updated),
            "resolvedDateTime": (alert.status == "Resolved").then(|| ticks::text(alert.updated)),
            "firstActivityDateTime": ticks::text(facts.first),
            "lastActivityDateTime": ticks::text(facts.last),
            "investigationState": if facts.investigation.is_some() { "queued" } else { "unsupportedAlertType" },
            "systemTags": [],
            "customDetails": {},
            "additionalData": null,
            "comments": comments(alert, "createdByDisplayName", "createdDateTime"),
            "evidence": evidence.iter().map(|evidence| evidence.graph(alert.created)).collect::<Vec<_>>(),
        })
    }

    /// The record of Defender for Endpoint.
    pub(crate) fn alert_mde(&self, alert: Alert, expanded: bool) -> Value {
        let mut facts = self.facts(alert);
        let evidence = self.evidence(alert, &mut facts);
        let user = facts
            .machine
            .map(|_| self.user(self.hash(&[0xa1e5, alert.number])));
        let mut record = json!({
            "id": self.alert_id(alert.number),
            "incidentId": Incident::id(self.incident_of(alert.number)),
            "investigationId": facts.investigation,
            "investigationState": if facts.investigation.is_some() { "Queued" } else { "UnsupportedAlertType" },
            "assignedTo": facts.assigned,
            "severity": facts.severity,
            "status": alert.status,
            "classification": facts.verdict.map(|verdict| verdict.0),
            "determination": facts.verdict.map(|verdict| verdict.1),
            "detectionSource": facts.source.3,
            "detectorId": self.ids.uuid(super::Kind::Rule, 700 + alert.number % 40),
            "category": facts.category,
            "threatFamilyName": facts.family,
            "threatName": null,
            "title": facts.title,
            "description": facts.text,
            "alertCreationTime": ticks::text(alert.created),
            "firstEventTime": ticks::text(facts.first),
            "lastEventTime": ticks::text(facts.last),
            "lastUpdateTime": ticks::text(alert.updated),
            "resolvedTime": (alert.status == "Resolved").then(|| ticks::text(alert.updated)),
            "machineId": facts.machine.map(|machine| self.machine_id(machine)),
            "computerDnsName": facts.machine.map(|machine| self.machine_name(machine)),
            "rbacGroupName": facts.machine.map(|machine| self.machine_group(machine, 0).1),
            "aadTenantId": self.tenant,
            "mitreTechniques": [facts.technique],
            "relatedUser": user.as_ref().map(|user| json!({"userName": user, "domainName": "FENNBRIDGE"})),
            "loggedOnUsers": user.iter().map(|user| json!({"accountName": user, "domainName": "FENNBRIDGE"})).collect::<Vec<_>>(),
            "comments": comments(alert, "createdBy", "createdTime"),
            "evidence": [],
        });
        if expanded {
            record["evidence"] = evidence.iter().map(|one| one.mde(alert.created)).collect();
        }
        record
    }

    /// The record of Defender XDR, inside of an incident.
    pub(super) fn alert_xdr(&self, alert: Alert, now: i64) -> Value {
        let mut facts = self.facts(alert);
        let evidence = self.evidence(alert, &mut facts);
        let device = facts
            .machine
            .and_then(|machine| self.machine_at(machine, now));
        let devices = device.map(|machine| {
            let record = self.machine(machine, now);
            json!({
                "mdatpDeviceId": record["id"], "aadDeviceId": record["aadDeviceId"],
                "deviceDnsName": record["computerDnsName"], "osPlatform": record["osPlatform"],
                "version": record["version"], "osProcessor": record["osProcessor"],
                "osBuild": record["osBuild"], "healthStatus": record["healthStatus"],
                "riskScore": record["riskScore"], "rbacGroupName": record["rbacGroupName"],
                "rbacGroupId": record["rbacGroupId"], "firstSeen": record["firstSeen"],
                "tags": record["machineTags"], "defenderAvStatus": "Updated",
                "onboardingStatus": "Onboarded", "vmMetadata": record["vmMetadata"], "loggedOnUsers": [],
            })
        });
        json!({
            "alertId": self.alert_id(alert.number),
            "providerAlertId": self.alert_id(alert.number),
            "incidentId": Incident::id(self.incident_of(alert.number)),
            "serviceSource": facts.source.1,
            "creationTime": ticks::text(alert.created),
            "lastUpdatedTime": ticks::text(alert.updated),
            "resolvedTime": (alert.status == "Resolved").then(|| ticks::text(alert.updated)),
            "firstActivity": ticks::text(facts.first),
            "lastActivity": ticks::text(facts.last),
            "title": facts.title,
            "description": facts.text,
            "category": facts.category,
            "status": alert.status,
            "severity": facts.severity,
            "investigationId": facts.investigation,
            "investigationState": if facts.investigation.is_some() { "Queued" } else { "UnsupportedAlertType" },
            "classification": facts.verdict.map(|verdict| verdict.0),
            "determination": facts.verdict.map(|verdict| verdict.1),
            "detectionSource": facts.source.3,
            "detectorId": self.ids.uuid(super::Kind::Rule, 700 + alert.number % 40),
            "assignedTo": facts.assigned,
            "actorName": null,
            "threatFamilyName": facts.family,
            "mitreTechniques": [facts.technique],
            "devices": devices.into_iter().collect::<Vec<_>>(),
            "entities": evidence.iter().filter_map(|one| one.xdr(alert.created)).collect::<Vec<_>>(),
        })
    }

    fn evidence(&self, alert: Alert, facts: &mut Facts) -> Vec<evidence::Evidence> {
        let user = self.user(self.hash(&[0xa1e5, alert.number]));
        let machine = facts
            .machine
            .map(|number| (self.machine_id(number), self.machine_name(number)));
        evidence::of(facts.category, machine, user, &mut facts.dice)
    }
}

/// What is known of an alert, before an API puts it into words.
struct Facts {
    source: (&'static str, &'static str, &'static str, &'static str),
    title: &'static str,
    category: &'static str,
    technique: &'static str,
    severity: &'static str,
    first: i64,
    last: i64,
    verdict: Option<(&'static str, &'static str)>,
    assigned: Option<String>,
    machine: Option<u64>,
    family: Option<&'static str>,
    text: String,
    investigation: Option<u64>,
    dice: Dice,
}

/// A member of an enum as a client sees it that has not asked for new ones.
pub(super) fn hide(name: &'static str) -> &'static str {
    if GATED.contains(&name) { UNKNOWN } else { name }
}

/// `TruePositive` → `truePositive`.
pub(super) fn camel(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn comments(alert: Alert, by: &str, at: &str) -> Value {
    match alert.status {
        "Resolved" => {
            json!([{"comment": "Looked into and closed.", by: "analyst.1", at: ticks::text(alert.updated)}])
        }
        _ => json!([]),
    }
}
