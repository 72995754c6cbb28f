//! The company: its devices and its users. It is small and made once.

use serde_json::{Value, json};

use super::{
    ids::{Ids, Kind},
    lane::{DAY, Finest, Moment},
};
use crate::simulator::dice::Dice;

/// How many devices the company has.
pub(crate) const DEVICES: u64 = 60;
/// How many users the company has.
pub(crate) const USERS: u64 = 85;

/// The company's name, as it appears in domains and tenants.
pub(crate) const DOMAIN: &str = "fennbridge.example";

const SITES: [&str; 4] = ["BRK", "HAF", "LUN", "OST"];
const TEAMS: [&str; 9] = [
    "packing", "welding", "finance", "design", "sales", "support", "lab", "dispatch", "it-ops",
];

/// (family id, type, name prefix, system, version)
const SYSTEMS: [(u64, &str, &str, &str, &str); 8] = [
    (
        1,
        "NOTEBOOK",
        "NB",
        "Microsoft Windows 11 Enterprise",
        "10.0.26100",
    ),
    (
        1,
        "NOTEBOOK",
        "NB",
        "Microsoft Windows 10 Pro",
        "10.0.19045",
    ),
    (1, "DESKTOP", "PC", "Microsoft Windows 11 Pro", "10.0.22631"),
    (1, "DESKTOP", "PC", "Microsoft Windows 11 Pro", "10.0.26100"),
    (
        1,
        "SERVER",
        "SRV",
        "Microsoft Windows Server 2022 Standard",
        "10.0.20348",
    ),
    (2, "SERVER", "LX", "Debian GNU/Linux", "12.8"),
    (3, "NOTEBOOK", "MB", "macOS Tahoe", "26.1"),
    (4, "SMARTPHONE", "PH", "Android", "15"),
];

/// One device.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) mac: String,
}

impl Device {
    /// The `number`-th device; there could be any number of them.
    pub(crate) fn new(seed: u64, ids: Ids, number: u64) -> Self {
        let mut dice = Dice::new(seed, &[0xde1, number]);
        let (.., prefix, _, _) = *dice.pick(&SYSTEMS);
        let site = dice.pick(&SITES);
        let mac = dice.hex(5);
        let pairs: Vec<&str> = (0..5)
            .filter_map(|at| mac.get(at * 2..at * 2 + 2))
            .collect();
        Self {
            uuid: ids.uuid(Kind::Device, number),
            name: format!("{site}-{prefix}-{number:03}"),
            address: format!(
                "10.{}.{}.{}",
                20 + number % 4,
                number / 4 % 250,
                dice.range(10, 250)
            ),
            mac: format!("02:{}", pairs.join(":")),
        }
    }

    /// (system, version) of the `number`-th device.
    pub(crate) fn system(seed: u64, number: u64) -> (&'static str, &'static str) {
        let (.., system, version) = *Dice::new(seed, &[0xde1, number]).pick(&SYSTEMS);
        (system, version)
    }
}

/// The name of the `number`-th user; there could be any number of them.
pub(crate) fn user(seed: u64, number: u64) -> String {
    let mut dice = Dice::new(seed, &[0x05e2, number]);
    format!("{}.{number:02}", dice.pick(&TEAMS))
}

/// Everything about the company that does not change.
#[derive(Debug, Clone)]
pub(crate) struct Company {
    seed: u64,
    ids: Ids,
    finest: Finest,
    pub(crate) devices: Vec<Device>,
    pub(crate) users: Vec<String>,
}

impl Company {
    pub(crate) fn new(seed: u64, ids: Ids, finest: Finest) -> Self {
        let devices = (0..DEVICES)
            .map(|number| Device::new(seed, ids, number))
            .collect();
        let users = (0..USERS).map(|number| user(seed, number)).collect();
        Self {
            seed,
            ids,
            finest,
            devices,
            users,
        }
    }

    /// A device as `/v1/devices` tells it at `now`.
    pub(crate) fn device(&self, number: u64, now: i64) -> Value {
        let Some(device) = usize::try_from(number)
            .ok()
            .and_then(|at| self.devices.get(at))
        else {
            return Value::Null;
        };
        let mut dice = Dice::new(self.seed, &[0xde1, number]);
        let (family, kind, _, system, version) = *dice.pick(&SYSTEMS);
        let mut dice = Dice::new(self.seed, &[0xde2, number]);
        let parts: Vec<u64> = version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or(0);
        // A device reports every ten minutes; some have been off for days.
        let off = if dice.one_in(8) { dice.below(5) } else { 0 };
        let period = 600 * 1_000_000_000;
        let sync = now - now.rem_euclid(period) - off.cast_signed() * DAY;
        let problems = if dice.one_in(4) { dice.range(1, 4) } else { 0 };
        let status = ["OK", "ATTENTION_RECOMMENDED", "ATTENTION_REQUIRED"]
            [dice.index(3).min(usize::from(problems > 0) * 2)];
        json!({
            "uuid": device.uuid,
            "displayName": device.name,
            "originalDisplayName": device.name.to_ascii_lowercase(),
            "description": if dice.one_in(3) { Value::Null } else { json!("") },
            "deviceType": format!("DEVICE_TYPE_{kind}"),
            "enrollmentStatus": "DEVICE_ENROLLMENT_STATUS_FINISHED",
            "functionalityProblemCount": problems,
            "functionalityStatus": format!("DEVICE_FUNCTIONALITY_STATUS_{status}"),
            "isMaster": false,
            "isMobile": kind == "SMARTPHONE",
            "isMuted": dice.one_in(20),
            "lastSyncTime": Moment::new(sync, dice.next(), self.finest).text(),
            "managementDomain": DOMAIN,
            "operatingSystem": {
                "bitness": 64,
                "displayName": system,
                "editionId": dice.below(100),
                "familyId": family,
                "version": {
                    "id": (part(0) << 48 | part(1) << 32 | part(2) << 16).to_string(),
                    "major": part(0), "minor": part(1), "patch": part(2), "name": version,
                },
            },
            "parentGroupUuid": self.ids.uuid(Kind::Group, number % 5),
            "primaryLocalIpAddress": device.address,
            "publicIpAddress": format!("198.51.100.{}", 1 + number % 4),
            "hardwareProfiles": [{
                "bios": {"manufacturer": "Tarnwick", "serialNumber": dice.hex(5), "uuid": self.ids.uuid(Kind::Group, 100 + number)},
                "hardDrives": [{
                    "capacityBytes": (256_u64 << 30 << dice.below(3)).to_string(),
                    "displayName": "Tarnwick NV-4", "driveType": "DRIVE_TYPE_SSD",
                    "manufacturerName": "Tarnwick", "serialNumber": dice.hex(6),
                }],
                "manufacturer": "Tarnwick", "model": format!("Ridge {}", dice.range(3, 9)),
                "networkAdapters": [{"caption": "Ethernet", "macAddress": device.mac}],
                "processors": [{"architecture": "CPU_ARCHITECTURE_X64", "caption": "Tarnwick C8", "manufacturer": "Tarnwick"}],
            }],
            "activeProducts": [{"id": dice.below(900), "name": "Endpoint Security"}],
            "deployedComponents": [{
                "displayName": "Management Agent",
                "name": "Agent",
                "version": {"id": "3659174697238528", "major": 13, "minor": 0, "patch": dice.below(400), "name": "13.0"},
            }],
            "tags": if dice.one_in(3) { json!(["field"]) } else { json!([]) },
            "ownerUuid": self.ids.uuid(Kind::User, number % USERS),
            "etag": dice.hex(8),
        })
    }

    /// The device's number, when `uuid` names one.
    pub(crate) fn device_number(&self, uuid: &str) -> Option<u64> {
        match self.ids.parse(uuid) {
            Some((Kind::Device, number)) if number < DEVICES => Some(number),
            _ => None,
        }
    }
}
