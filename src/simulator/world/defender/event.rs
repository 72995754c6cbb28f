//! Rows of advanced hunting. What a column holds follows from its name, else from its type; and the
//! types are as loose as in the real answers.

use serde_json::{Map, Value, json};

use super::{Defender, Table, machine::sid, table::Type, ticks};
use crate::simulator::{
    dice::{Dice, hash, hash_text},
    world::{company::DOMAIN, ids::Kind, lane::SECOND, words},
};

const PROGRAMS: [(&str, &str); 6] = [
    ("svchost.exe", "C:\\Windows\\System32\\svchost.exe"),
    (
        "powershell.exe",
        "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    ),
    (
        "viewer.exe",
        "C:\\Program Files\\Tarnwick\\Viewer\\viewer.exe",
    ),
    (
        "osterby.exe",
        "C:\\Program Files\\Osterby\\Browser\\osterby.exe",
    ),
    ("python3", "/usr/bin/python3"),
    (
        "setup.tmp.exe",
        "C:\\Users\\Public\\Downloads\\setup.tmp.exe",
    ),
];

/// What happens in a table (`ActionType`).
fn actions(table: &str) -> &'static [&'static str] {
    match table {
        "DeviceProcessEvents" => &["ProcessCreated", "OpenProcess"],
        "DeviceNetworkEvents" => &[
            "ConnectionSuccess",
            "ConnectionFailed",
            "DnsConnectionInspected",
        ],
        "DeviceFileEvents" => &["FileCreated", "FileModified", "FileRenamed", "FileDeleted"],
        "DeviceRegistryEvents" => &["RegistryValueSet", "RegistryKeyCreated"],
        "DeviceLogonEvents" | "IdentityLogonEvents" => {
            &["LogonSuccess", "LogonFailed", "LogonAttempted"]
        }
        "DeviceImageLoadEvents" => &["ImageLoaded"],
        "DeviceEvents" => &[
            "AntivirusScanCompleted",
            "PowerShellCommand",
            "UsbDriveMounted",
            "ScreenshotTaken",
        ],
        "CloudAppEvents" => &[
            "FileDownloaded",
            "MailItemsAccessed",
            "Send",
            "UserLoggedIn",
        ],
        "EmailPostDeliveryEvents" => &["Phish ZAP", "Malware ZAP", "Manual remediation"],
        "IdentityDirectoryEvents" => &["Account Password changed", "Group Membership changed"],
        "IdentityQueryEvents" => &["LDAP query", "SAMR query", "DNS query"],
        "UrlClickEvents" => &["ClickAllowed", "ClickBlocked", "ClickedThrough"],
        _ => &["Other"],
    }
}

impl Defender {
    /// The machine that an event happened on.
    fn machine_of_event(&self, table: &Table, number: u64) -> u64 {
        let machines = self.estate.machines.max(1);
        self.hash(&[0xe0e0, table.salt, number]) % machines
    }

    /// What `hash(COLUMN, modulus)` gives for a row.
    pub(crate) fn event_shard(&self, table: &Table, number: u64, modulus: u64) -> u64 {
        let bits = if table.has("DeviceId") {
            let machine = self.machine_of_event(table, number);
            hash_text(0x5a5, &self.machine_id(machine))
        } else {
            self.hash(&[0xe0e1, table.salt, number])
        };
        bits.checked_rem(modulus).unwrap_or(0)
    }

    /// A row of a table.
    pub(crate) fn event(&self, table: &Table, number: u64) -> Value {
        let mut dice = Dice::new(self.seed, &[0xe0e2, table.salt, number]);
        let machine = self.machine_of_event(table, number);
        let alert = match table.name.as_str() {
            "AlertInfo" => number,
            // Evidence comes with the alert or soon behind it.
            _ => self
                .alerts
                .known(table.ingested(number))
                .saturating_sub(1 + dice.below(20)),
        };
        let row = Row {
            defender: self,
            table,
            number,
            machine,
            alert,
            time: table.happened(number),
        };
        let members = table
            .columns
            .iter()
            .map(|(name, kind)| (name.clone(), row.member(name, *kind, &mut dice)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

struct Row<'a> {
    defender: &'a Defender,
    table: &'a Table,
    number: u64,
    machine: u64,
    alert: u64,
    time: i64,
}

/// What XDR's words for sources are in the tables of hunting (docs/contracts/values.md, *Hunting*).
fn in_tables(source: &str) -> &str {
    match source {
        "MicrosoftDefenderATP" => "Microsoft Defender for Endpoint",
        "OfficeATP" => "Microsoft Defender for Office 365",
        "AzureATP" => "Microsoft Defender for Identity",
        "MicrosoftCloudAppSecurity" | "MCAS" => "Microsoft Defender for Cloud Apps",
        "MicrosoftThreatProtection" | "MTP" => "Microsoft Defender XDR",
        "MicrosoftDefenderForCloud" => "Microsoft Defender for Cloud",
        "MicrosoftSentinel" => "Microsoft Sentinel",
        "WindowsDefenderAv" => "Antivirus",
        "WindowsDefenderAtp" => "EDR",
        "WindowsDefenderSmartScreen" => "SmartScreen",
        "MicrosoftDefenderForServers" => "Microsoft Defender for Servers",
        "ScheduledAlerts" => "Scheduled Alerts",
        "NrtAlerts" => "NRT Alerts",
        other => other,
    }
}

impl Row<'_> {
    fn member(&self, name: &str, kind: Type, dice: &mut Dice) -> Value {
        self.known(name, kind, dice)
            .unwrap_or_else(|| by_type(kind, self.time, dice))
    }

    /// The columns that other things hang on.
    fn known(&self, name: &str, kind: Type, dice: &mut Dice) -> Option<Value> {
        let defender = self.defender;
        let header = |at: usize| json!(defender.alert_header(self.alert).get(at));
        let alerts = self.table.name.starts_with("Alert");
        Some(match name {
            "Timestamp" | "TimeGenerated" => json!(ticks::text(self.time)),
            "DeviceId" => json!(defender.machine_id(self.machine)),
            "DeviceName" => json!(defender.machine_name(self.machine)),
            // A counter that starts over.
            "ReportId" if kind == Type::Long => json!(1 + self.number % 40_000),
            "ReportId" => json!(format!("{:016x}{:016x}", self.bits(1), self.bits(2))),
            "ActionType" => json!(dice.pick(actions(&self.table.name))),
            "AlertId" => json!(defender.alert_id(self.alert)),
            "Title" if alerts => header(0),
            "Category" if alerts => header(1),
            "Categories" => json!(format!("[\"{}\"]", defender.alert_header(self.alert)[1])),
            "Severity" if alerts => header(2),
            "ServiceSource" => json!(in_tables(defender.alert_header(self.alert)[3])),
            "DetectionSource" => json!(in_tables(defender.alert_header(self.alert)[4])),
            "AttackTechniques" => json!(format!("[\"{}\"]", defender.alert_header(self.alert)[5])),
            "EntityType" => json!(dice.pick(&["Machine", "User", "File", "Process", "Ip", "Url"])),
            "OSPlatform" => json!(defender.machine_platform(self.machine)),
            "NetworkMessageId" => json!(defender.ids.uuid(Kind::Mail, self.bits(3) >> 8)),
            "NetworkAdapterName" => json!(format!(
                "{{{}}}",
                defender.ids.uuid(Kind::Group, self.machine)
            )),
            "AdditionalFields" | "RawEventData" if dice.one_in(3) => Value::Null,
            "AdditionalFields" | "RawEventData" => self.more(kind, dice),
            "LoggedOnUsers" => {
                let user = defender.user(dice.next());
                json!(format!(
                    "[{{\"UserName\":\"{user}\",\"DomainName\":\"FENNBRIDGE\"}}]"
                ))
            }
            "TenantId" => json!(defender.tenant),
            _ => return self.by_ending(name, kind, dice),
        })
    }

    fn by_ending(&self, name: &str, kind: Type, dice: &mut Dice) -> Option<Value> {
        if kind != Type::Text {
            return None;
        }
        let ends = |ending: &str| name.ends_with(ending);
        // A program started from afar is the exception.
        if name.contains("Remote") && (ends("SessionDeviceName") || ends("SessionIP")) {
            return Some(Value::Null);
        }
        let user = || self.defender.user(self.bits(4));
        Some(match () {
            () if ends("SHA1") || ends("Hash") => json!(dice.hex(20)),
            () if ends("SHA256") => json!(dice.hex(32)),
            () if ends("MD5") => json!(dice.hex(16)),
            () if ends("FileName") => json!(self.program(name).0),
            () if ends("FolderPath") => json!(self.program(name).1),
            () if ends("CommandLine") => {
                let length = if dice.one_in(300) {
                    dice.size(8000, 70_000)
                } else {
                    dice.size(20, 240)
                };
                json!(words::command_line(dice, self.program(name).0, length))
            }
            () if ends("AccountName") => json!(user()),
            () if ends("AccountDomain") => json!("fennbridge"),
            () if ends("AccountSid") => json!(sid(self.bits(4))),
            () if ends("Upn") || ends("EmailAddress") => json!(format!("{}@{DOMAIN}", user())),
            () if ends("FromAddress") => json!(format!("news@{}.example", dice.hex(4))),
            () if ends("DisplayName") => json!(user()),
            () if ends("ObjectId") => json!(self.defender.ids.uuid(Kind::User, self.bits(4) >> 8)),
            () if ends("IP") || ends("IPAddress") || ends("IPv4") => {
                json!(format!("203.0.113.{}", dice.range(1, 255)))
            }
            () if ends("Url") => json!(words::link(dice, 50)),
            () if ends("RegistryKey") => {
                json!(format!(
                    "HKEY_LOCAL_MACHINE\\SOFTWARE\\Tarnwick\\{}",
                    dice.hex(4)
                ))
            }
            () if name == "Subject" => json!(words::prose(dice, 40)),
            () => return None,
        })
    }

    /// The program that a column tells something of: the others of the same process tell of it, too.
    fn program(&self, name: &str) -> (&'static str, &'static str) {
        let endings = ["FileName", "FolderPath", "CommandLine"];
        let process = endings.iter().find_map(|ending| name.strip_suffix(ending));
        // `Process` stands before the command line of what `FileName` is the name of.
        let process = process.unwrap_or(name).trim_end_matches("Process");
        let salt = 5 + process.len() as u64;
        let place = self.bits(salt) % PROGRAMS.len() as u64;
        PROGRAMS
            .get(usize::try_from(place).unwrap_or_default())
            .copied()
            .unwrap_or_default()
    }

    /// A bag of more, as an object or as text that holds one.
    fn more(&self, kind: Type, dice: &mut Dice) -> Value {
        let length = if dice.one_in(400) {
            40_000
        } else {
            dice.size(10, 200)
        };
        let bag = json!({"Source": "Sensor", "Count": self.number % 9, "Note": words::prose(dice, length)});
        if kind == Type::Dynamic && dice.one_in(2) {
            bag
        } else {
            json!(bag.to_string())
        }
    }

    fn bits(&self, salt: u64) -> u64 {
        hash(self.table.salt, &[salt, self.number])
    }
}

/// Anything of a type, in all the ways that it is written.
fn by_type(kind: Type, time: i64, dice: &mut Dice) -> Value {
    if dice.one_in(4) {
        return Value::Null;
    }
    match kind {
        Type::Text => match dice.below(4) {
            0 => json!(""),
            1 => json!(dice.hex(8)),
            _ => json!(dice.pick(&["Unknown", "None", "Default", "Medium", "Tarnwick", "č. 7"])),
        },
        Type::Time => {
            let earlier = dice.range(1, 90_000).cast_signed() * SECOND;
            json!(ticks::text(time - earlier))
        }
        Type::Long if dice.one_in(50) => json!(i64::MAX.unsigned_abs() - dice.below(1000)),
        Type::Long => json!(dice.below(90_000)),
        Type::Int if dice.one_in(9) => json!(""),
        Type::Int => json!(dice.below(65_536)),
        Type::Bool => match dice.below(6) {
            0 => json!(0),
            1 => json!(1),
            2 => json!("0"),
            3 => json!(true),
            _ => json!(false),
        },
        Type::Dynamic => match dice.below(3) {
            0 => json!([dice.hex(4), dice.hex(4)]),
            1 => json!({"Name": dice.hex(4), "Value": dice.below(100)}),
            _ => json!(format!("[\"{}\"]", dice.hex(4))),
        },
    }
}
