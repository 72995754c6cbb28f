//! Machines: each reports about once a day, a few come and go, and what is thought of them changes
//! between two reports.

use serde_json::{Value, json};

use super::{Defender, EPOCH, ticks};
use crate::simulator::{
    dice::Dice,
    world::{
        company::{DOMAIN, Device},
        ids::Kind,
        lane::{DAY, HOUR, MINUTE},
    },
};

const GROUPS: [&str; 4] = ["Workplaces", "Servers", "Field", "Laboratory"];

/// A machine at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) number: u64,
    pub(crate) last_seen: i64,
}

impl Defender {
    /// When a machine is there: most have always been, one in forty comes around the start and one
    /// in forty goes.
    pub(super) fn machine_life(&self, number: u64) -> (i64, i64) {
        let hours = self.hash(&[0x3ac0, number]) % 28;
        let soon = self.start + (hours.cast_signed() + 2) * HOUR;
        match number % 40 {
            13 => (soon, i64::MAX),
            29 => (i64::MIN, soon),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// Whether the machine is known at `time`.
    pub(super) fn machine_exists(&self, number: u64, time: i64) -> bool {
        let (born, gone) = self.machine_life(number);
        number < self.estate.machines && born <= time && time < gone
    }

    /// The machine as it stands at `now`, when it is known.
    pub(crate) fn machine_at(&self, number: u64, now: i64) -> Option<Machine> {
        if !self.machine_exists(number, now) {
            return None;
        }
        let (born, _) = self.machine_life(number);
        // One in ten has been silent for days.
        let silent = self.hash(&[0x3ac1, number]);
        let until = if silent.is_multiple_of(10) && born == i64::MIN {
            self.start - (3 + (silent >> 32) % 22).cast_signed() * DAY
        } else {
            now
        };
        let phase = (self.hash(&[0x3ac2, number]) % DAY.unsigned_abs()).cast_signed();
        let day = (until - phase).div_euclid(DAY);
        let last_seen = (day - 2..=day + 1)
            .map(|day| self.report(number, phase, day))
            .filter(|time| *time <= until)
            .max();
        Some(Machine {
            number,
            last_seen: last_seen.unwrap_or(until).max(born),
        })
    }

    /// The full report of a day, up to an hour late.
    fn report(&self, number: u64, phase: i64, day: i64) -> i64 {
        let bits = self.hash(&[0x3ac3, number, day.unsigned_abs()]);
        let late = (bits % HOUR.unsigned_abs()).cast_signed();
        ticks::cut(day * DAY + phase + late, bits >> 40)
    }

    /// All machines that are known at `now`.
    pub(crate) fn machines(&self, now: i64) -> impl Iterator<Item = Machine> {
        (0..self.estate.machines).filter_map(move |number| self.machine_at(number, now))
    }

    /// The id of a machine.
    pub(crate) fn machine_id(&self, number: u64) -> String {
        self.ids.hex(Kind::Machine, number)
    }

    /// The number of the machine that an id names, known or not.
    pub(crate) fn machine_number(&self, id: &str) -> Option<u64> {
        let number = self.ids.parse_hex(Kind::Machine, id);
        number.filter(|number| *number < self.estate.machines)
    }

    /// The full name of a machine.
    pub(super) fn machine_name(&self, number: u64) -> String {
        let name = self.device(number).name.to_ascii_lowercase();
        format!("{name}.{DOMAIN}")
    }

    /// `osPlatform`.
    pub(super) fn machine_platform(&self, number: u64) -> &'static str {
        platform(Device::system(self.seed, number).0)
    }

    /// The group (id, name) that a machine is in; one in fifteen moves every week.
    pub(super) fn machine_group(&self, number: u64, week: i64) -> (u64, &'static str) {
        let bits = self.hash(&[0x3ac4, number]);
        let moves = if (bits >> 8).is_multiple_of(15) {
            week.unsigned_abs()
        } else {
            0
        };
        let group = (bits.wrapping_add(moves)) % GROUPS.len() as u64;
        let name = GROUPS[usize::try_from(group).unwrap_or(0)];
        (group + 1, name)
    }

    /// The record of a machine at `now`.
    pub(crate) fn machine(&self, machine: Machine, now: i64) -> Value {
        let Machine { number, last_seen } = machine;
        let device = self.device(number);
        let mut dice = Dice::new(self.seed, &[0x3ac5, number]);
        let (_, version) = Device::system(self.seed, number);
        let platform = self.machine_platform(number);
        let build: u64 = version
            .rsplit('.')
            .next()
            .and_then(|part| part.parse().ok())
            .unwrap_or(0);
        let release = *dice.pick(&["22H2", "23H2", "24H2", "25H2"]);
        let first_seen = last_seen.min(self.start) - dice.range(30, 400).cast_signed() * DAY;
        let silent = now - last_seen > 2 * DAY;
        let joined = dice.one_in(2);
        // What is thought of it changes without a report.
        let age =
            (now + (self.hash(&[0x3ac6, number]) % EPOCH.unsigned_abs()).cast_signed()) / EPOCH;
        let mut opinion = Dice::new(self.seed, &[0x3ac7, number, age.unsigned_abs()]);
        let tags = ["field", "pilot-ring"]
            .get(..opinion.index(4) / 2)
            .unwrap_or_default();
        let (group, group_name) = self.machine_group(number, now.div_euclid(7 * DAY));
        let mac = device.mac.replace(':', "").to_ascii_uppercase();
        let cloud = platform == "WindowsServer2022" && dice.one_in(2);
        json!({
            "id": self.machine_id(number),
            "mergedIntoMachineId": null,
            "isPotentialDuplication": dice.one_in(50),
            "isExcluded": false,
            "exclusionReason": null,
            "computerDnsName": self.machine_name(number),
            "firstSeen": ticks::text(first_seen),
            "lastSeen": ticks::text(last_seen),
            "osPlatform": platform,
            "osVersion": null,
            "osProcessor": "x64",
            "osArchitecture": "64-bit",
            "version": if platform.starts_with("Windows") { release } else { version },
            "osBuild": if platform.starts_with("Windows") { json!(build) } else { Value::Null },
            "lastIpAddress": device.address,
            "lastExternalIpAddress": format!("198.51.100.{}", 1 + number % 4),
            "agentVersion": format!("10.8{}.{}.{}", dice.range(700, 900), build, dice.below(4000)),
            "healthStatus": if silent { "Inactive" } else { *opinion.pick(&["Active", "Active", "Active", "Active", "ImpairedCommunication", "NoSensorData"]) },
            "onboardingStatus": "Onboarded",
            "deviceValue": *dice.pick(&["Normal", "Normal", "Normal", "High", "Low"]),
            "rbacGroupId": group,
            "rbacGroupName": group_name,
            "riskScore": *opinion.pick(&["None", "Informational", "Low", "Medium", "High"]),
            "exposureLevel": *opinion.pick(&["None", "Low", "Low", "Medium", "High"]),
            "isAadJoined": joined,
            "aadDeviceId": if joined { json!(self.ids.uuid(Kind::Device, (1 << 40) + number)) } else { Value::Null },
            "machineTags": tags,
            "managedBy": *dice.pick(&["Intune", "MicrosoftDefenderForEndpoint", "Unknown"]),
            "managedByStatus": *dice.pick(&["Success", "Unknown"]),
            "ipAddresses": [
                {"ipAddress": device.address, "macAddress": mac, "type": "Ethernet", "operationalStatus": "Up"},
                {"ipAddress": "127.0.0.1", "macAddress": null, "type": "SoftwareLoopback", "operationalStatus": "Up"},
                {"ipAddress": "", "macAddress": mac, "type": "Other", "operationalStatus": "Down"},
            ],
            "vmMetadata": if cloud {
                json!({"vmId": self.ids.uuid(Kind::Group, 9000 + number), "cloudProvider": "Azure", "resourceId": "", "subscriptionId": self.tenant})
            } else { Value::Null },
        })
    }

    /// Who has logged on to a machine.
    pub(crate) fn logon_users(&self, number: u64, now: i64) -> Vec<Value> {
        let mut dice = Dice::new(self.seed, &[0x3ac8, number]);
        let id = self.machine_id(number);
        let count = dice.range(1, 4);
        (0..count)
            .map(|at| {
                let bits = dice.next();
                let name = self.user(bits);
                let last = now - (bits >> 20).rem_euclid(DAY.unsigned_abs()).cast_signed();
                json!({
                    "id": format!("fennbridge\\{name}"),
                    "accountName": name,
                    "accountDomain": "fennbridge",
                    "accountSid": sid(bits),
                    "firstSeen": ticks::text(ticks::cut(self.start - 90 * DAY, 0)),
                    "lastSeen": ticks::text(ticks::cut(last, 0)),
                    "mostPrevalentMachineId": id,
                    "leastPrevalentMachineId": id,
                    "logonTypes": if at == 0 { "Interactive, RemoteInteractive" } else { "Network" },
                    "isDomainAdmin": dice.one_in(12),
                    "isOnlyNetworkUser": at > 0,
                })
            })
            .collect()
    }

    /// The machines that had `address` within a quarter of an hour of `time`.
    pub(crate) fn machines_at_address(&self, address: &str, time: i64) -> Vec<Machine> {
        self.machines(time + 15 * MINUTE)
            .filter(|machine| self.device(machine.number).address == address)
            .collect()
    }
}

/// The security identifier of a user.
pub(super) fn sid(bits: u64) -> String {
    format!(
        "S-1-5-21-1004336348-1177238915-682003330-{}",
        1000 + bits % 60_000
    )
}

fn platform(system: &str) -> &'static str {
    match system {
        _ if system.contains("Server") => "WindowsServer2022",
        _ if system.contains("Windows 11") => "Windows11",
        _ if system.contains("Windows") => "Windows10",
        _ if system.contains("macOS") => "macOS",
        _ if system.contains("Android") => "Android",
        _ => "Linux",
    }
}
