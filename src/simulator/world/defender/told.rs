//! An alert in the words of Graph, of Defender for Endpoint and of Defender XDR.

use serde_json::{Value, json};

use super::{Alert, Defender, Incident, Kind, ticks};

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

impl Defender {
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
            "detectorId": self.ids.uuid(Kind::Rule, 700 + alert.number % 40),
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
            "detectorId": self.ids.uuid(Kind::Rule, 700 + alert.number % 40),
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
            "detectorId": self.ids.uuid(Kind::Rule, 700 + alert.number % 40),
            "assignedTo": facts.assigned,
            "actorName": null,
            "threatFamilyName": facts.family,
            "mitreTechniques": [facts.technique],
            "devices": devices.into_iter().collect::<Vec<_>>(),
            "entities": evidence.iter().filter_map(|one| one.xdr(alert.created)).collect::<Vec<_>>(),
        })
    }
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
