//! Alerts: each is raised, worked on and resolved, alone or together with its incident. One alert
//! can be told in the words of Graph, of Defender for Endpoint and of Defender XDR.

use super::{Defender, evidence, ticks};
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
        let (created, mut dice) = self.alert_created(number);
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

    /// When an alert is raised, and the dice of what comes after.
    fn alert_created(&self, number: u64) -> (i64, Dice) {
        let mut dice = Dice::new(self.seed, &[0xa1e0, number]);
        let created = ticks::cut(self.alerts.arrival(number), dice.next());
        (created, dice)
    }

    /// The incident that an alert belongs to: one of the four latest when it was raised.
    pub(crate) fn incident_of(&self, alert: u64) -> u64 {
        let known = self.incidents.known(self.alerts.arrival(alert));
        known.saturating_sub(1 + self.hash(&[0xa1e1, alert]) % 4)
    }

    /// The alerts of an incident that were raised until `now`.
    pub(crate) fn alerts_of(&self, incident: u64, now: i64) -> impl Iterator<Item = Alert> {
        self.members_of(incident)
            .filter_map(move |number| self.alert_at(number, now))
    }

    /// When the alerts of an incident join it.
    pub(super) fn joins(&self, incident: u64) -> impl Iterator<Item = i64> {
        self.members_of(incident)
            .map(|number| self.alert_created(number).0)
    }

    /// The numbers of the alerts of an incident, whenever they are raised.
    fn members_of(&self, incident: u64) -> impl Iterator<Item = u64> {
        // An alert goes to one of the four latest incidents; the first takes what comes before it.
        let begins = |incident| self.alerts.arriving(self.incidents.arrival(incident));
        let from = if incident == 0 { 0 } else { begins(incident) };
        (from..begins(incident + 4)).filter(move |number| self.incident_of(*number) == incident)
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

    pub(super) fn facts(&self, alert: Alert) -> Facts {
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

    pub(super) fn evidence(&self, alert: Alert, facts: &mut Facts) -> Vec<evidence::Evidence> {
        let user = self.user(self.hash(&[0xa1e5, alert.number]));
        let machine = facts
            .machine
            .map(|number| (self.machine_id(number), self.machine_name(number)));
        evidence::of(facts.category, machine, user, &mut facts.dice)
    }
}

/// What is known of an alert, before an API puts it into words.
pub(super) struct Facts {
    pub(super) source: (&'static str, &'static str, &'static str, &'static str),
    pub(super) title: &'static str,
    pub(super) category: &'static str,
    pub(super) technique: &'static str,
    pub(super) severity: &'static str,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) verdict: Option<(&'static str, &'static str)>,
    pub(super) assigned: Option<String>,
    pub(super) machine: Option<u64>,
    pub(super) family: Option<&'static str>,
    pub(super) text: String,
    pub(super) investigation: Option<u64>,
    pub(super) dice: Dice,
}
