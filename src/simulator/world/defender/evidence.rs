//! What an alert is about, in the words of three APIs.

use serde_json::{Value, json};

use super::{machine::sid, ticks};
use crate::simulator::{
    dice::Dice,
    world::{company::DOMAIN, words},
};

const PROGRAMS: [(&str, &str); 4] = [
    ("wscript.exe", "C:\\Windows\\System32"),
    (
        "powershell.exe",
        "C:\\Windows\\System32\\WindowsPowerShell\\v1.0",
    ),
    ("invoice_2291.pdf.exe", "C:\\Users\\Public\\Downloads"),
    ("viewer.exe", "C:\\Program Files\\Tarnwick\\Viewer"),
];

/// The members that every piece of evidence of Defender for Endpoint has, most of them null.
const MDE: [&str; 22] = [
    "sha1",
    "sha256",
    "fileName",
    "filePath",
    "processId",
    "processCommandLine",
    "processCreationTime",
    "parentProcessId",
    "parentProcessCreationTime",
    "parentProcessFileName",
    "parentProcessFilePath",
    "ipAddress",
    "url",
    "registryKey",
    "registryHive",
    "registryValueType",
    "registryValue",
    "accountName",
    "domainName",
    "userSid",
    "aadUserId",
    "userPrincipalName",
];

/// The members that entities of Defender XDR have beside these.
const XDR: [&str; 9] = [
    "mailboxDisplayName",
    "mailboxAddress",
    "clusterBy",
    "sender",
    "recipient",
    "subject",
    "deliveryAction",
    "securityGroupId",
    "deviceId",
];

/// One piece.
pub(super) enum Evidence {
    Device {
        id: String,
        name: String,
    },
    User {
        name: String,
        sid: String,
    },
    File {
        name: &'static str,
        path: &'static str,
        sha1: String,
        sha256: String,
    },
    Process {
        name: &'static str,
        path: &'static str,
        sha1: String,
        id: u64,
        line: String,
    },
    Address(String),
    Url(String),
    Key {
        key: String,
        hive: &'static str,
    },
}

/// The evidence of an alert of a category.
pub(super) fn of(
    category: &str,
    machine: Option<(String, String)>,
    user: String,
    dice: &mut Dice,
) -> Vec<Evidence> {
    let mut all = Vec::new();
    let endpoint = machine.is_some();
    if let Some((id, name)) = machine {
        all.push(Evidence::Device { id, name });
    }
    all.push(Evidence::User {
        name: user,
        sid: sid(dice.next()),
    });
    if endpoint {
        let (name, path) = *dice.pick(&PROGRAMS);
        all.push(Evidence::File {
            name,
            path,
            sha1: dice.hex(20),
            sha256: dice.hex(32),
        });
        let length = dice.size(30, 300);
        all.push(Evidence::Process {
            name,
            path,
            sha1: dice.hex(20),
            id: dice.range(400, 30_000),
            line: words::command_line(dice, name, length),
        });
    }
    if matches!(
        category,
        "CommandAndControl" | "InitialAccess" | "SuspiciousActivity"
    ) {
        all.push(Evidence::Address(format!(
            "203.0.113.{}",
            dice.range(1, 255)
        )));
        all.push(Evidence::Url(words::link(dice, 60)));
    }
    if category == "Persistence" {
        all.push(Evidence::Key {
            key: format!("SOFTWARE\\Tarnwick\\{}", dice.hex(4)),
            hive: "HKEY_LOCAL_MACHINE",
        });
    }
    all
}

impl Evidence {
    /// As Graph tells it.
    pub(super) fn graph(&self, time: i64) -> Value {
        let (kind, members) = match self {
            Self::Device { id, name } => (
                "deviceEvidence",
                json!({"mdeDeviceId": id, "deviceDnsName": name, "hostName": name.split('.').next(), "ntDomain": null, "onboardingStatus": "onboarded", "loggedOnUsers": []}),
            ),
            Self::User { name, sid } => (
                "userEvidence",
                json!({"stream": null, "userAccount": {"accountName": name, "domainName": "FENNBRIDGE", "userSid": sid, "azureAdUserId": null, "userPrincipalName": upn(name), "displayName": name}}),
            ),
            Self::File {
                name,
                path,
                sha1,
                sha256,
            } => (
                "fileEvidence",
                json!({"detectionStatus": "detected", "mdeDeviceId": null, "fileDetails": {"sha1": sha1, "sha256": sha256, "fileName": name, "filePath": path, "fileSize": 61_440, "filePublisher": null, "signer": null, "issuer": null}}),
            ),
            Self::Process {
                name,
                path,
                sha1,
                id,
                line,
            } => (
                "processEvidence",
                json!({"processId": id, "parentProcessId": 612, "processCommandLine": line, "processCreationDateTime": ticks::text(time), "detectionStatus": "detected", "imageFile": {"sha1": sha1, "sha256": null, "fileName": name, "filePath": path}, "userAccount": null}),
            ),
            Self::Address(address) => (
                "ipEvidence",
                json!({"ipAddress": address, "countryLetterCode": null}),
            ),
            Self::Url(url) => ("urlEvidence", json!({"url": url})),
            Self::Key { key, hive } => (
                "registryKeyEvidence",
                json!({"registryKey": key, "registryHive": hive}),
            ),
        };
        let mut evidence = json!({
            "@odata.type": format!("#microsoft.graph.security.{kind}"),
            "createdDateTime": ticks::text(time),
            "verdict": "suspicious", "remediationStatus": "none", "remediationStatusDetails": null,
            "roles": [], "detailedRoles": [], "tags": [],
        });
        merge(&mut evidence, members);
        evidence
    }

    /// As Defender for Endpoint tells it: flat, and mostly null.
    pub(super) fn mde(&self, time: i64) -> Value {
        let mut evidence = self.flat(time, &MDE);
        evidence["evidenceCreationTime"] = json!(ticks::text(time));
        evidence["detectionStatus"] = match self {
            Self::File { .. } | Self::Process { .. } => json!("Detected"),
            _ => Value::Null,
        };
        evidence
    }

    /// As Defender XDR tells it; devices stand beside the entities.
    pub(super) fn xdr(&self, time: i64) -> Option<Value> {
        if matches!(self, Self::Device { .. }) {
            return None;
        }
        let mut entity = self.flat(time, &MDE);
        for name in XDR {
            entity[name] = Value::Null;
        }
        Some(entity)
    }

    fn flat(&self, time: i64, names: &[&str]) -> Value {
        let (kind, members) = match self {
            Self::Device { name, .. } => ("Device", json!({"fileName": null, "accountName": name})),
            Self::User { name, sid } => (
                "User",
                json!({"accountName": name, "domainName": "FENNBRIDGE", "userSid": sid, "userPrincipalName": upn(name)}),
            ),
            Self::File {
                name,
                path,
                sha1,
                sha256,
            } => (
                "File",
                json!({"sha1": sha1, "sha256": sha256, "fileName": name, "filePath": path}),
            ),
            Self::Process {
                name,
                path,
                sha1,
                id,
                line,
            } => (
                "Process",
                json!({"sha1": sha1, "fileName": name, "filePath": path, "processId": id, "processCommandLine": line, "processCreationTime": ticks::text(time), "parentProcessId": 612}),
            ),
            Self::Address(address) => ("Ip", json!({"ipAddress": address})),
            Self::Url(url) => ("Url", json!({"url": url})),
            Self::Key { key, hive } => (
                "Registry",
                json!({"registryKey": key, "registryHive": hive}),
            ),
        };
        let nulls = names.iter().map(|name| ((*name).to_owned(), Value::Null));
        let mut flat = Value::Object(nulls.collect());
        flat["entityType"] = json!(kind);
        merge(&mut flat, members);
        flat
    }
}

fn upn(name: &str) -> String {
    format!("{name}@{DOMAIN}")
}

fn merge(object: &mut Value, members: Value) {
    if let (Value::Object(object), Value::Object(members)) = (object, members) {
        object.extend(members);
    }
}
