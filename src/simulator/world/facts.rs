//! What happened in one detection, before either version of the API puts it into words.

use super::{
    Product,
    company::{DEVICES, USERS},
    lane::{Lane, Moment},
    words,
};
use crate::simulator::dice::Dice;

/// A kind of event. `category` is the ending of the v2 enum constant.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) category: &'static str,
    pub(crate) type_name: &'static str,
    pub(crate) object: &'static str,
    pub(crate) names: &'static [&'static str],
    pub(crate) protection: &'static str,
    pub(crate) network: bool,
}

const fn scenario(
    category: &'static str,
    type_name: &'static str,
    object: &'static str,
    names: &'static [&'static str],
    protection: &'static str,
    network: bool,
) -> Scenario {
    Scenario {
        category,
        type_name,
        object,
        names,
        protection,
        network,
    }
}

const FILE: &str = "File";
const NONE: &[&str] = &[""];

const PROTECT: &[Scenario] = &[
    scenario(
        "ANTIVIRUS",
        "Trojan",
        FILE,
        &["Win32/Marbleclaw.A", "MSIL/Quillspan.KT", "Win64/Ostler.C"],
        "Real-time file system protection",
        false,
    ),
    scenario(
        "ANTIVIRUS",
        "Potentially unwanted application",
        FILE,
        &["Win32/Barrowtool.F", "OSX/Dunlin.B"],
        "On-demand scanner",
        false,
    ),
    scenario(
        "ANTIVIRUS",
        "Worm",
        "Memory",
        &["Win32/Fernwheel.gen"],
        "Startup scanner",
        false,
    ),
    scenario(
        "WEB_ACCESS",
        "Blocked address",
        "URL",
        &["HTML/Cinderlatch.P", "JS/Palewick.AQ"],
        "Web access protection",
        true,
    ),
    scenario(
        "WEB_ACCESS",
        "Phishing page",
        "URL",
        &["HTML/Ferrymark.Phish"],
        "Anti-Phishing",
        true,
    ),
    scenario(
        "FIREWALL_RULE",
        "Rule hit",
        "Connection",
        &[
            "Deny inbound SMB from guest network",
            "Block unknown outbound",
        ],
        "Firewall",
        true,
    ),
    scenario(
        "NETWORK_INTRUSION",
        "TCP Port scanning attack",
        "Connection",
        &["TCP/Scan.Slow", "SMB/Attack.Gullcroft"],
        "Network attack protection",
        true,
    ),
    scenario(
        "HIPS",
        "Self-defense",
        "Process",
        &["Write to a protected key"],
        "HIPS",
        false,
    ),
    scenario(
        "HIPS_RULE",
        "Rule hit",
        "Process",
        &[
            "Office program starts a child process",
            "Access to credentials store",
        ],
        "HIPS",
        false,
    ),
    scenario(
        "SUSPICIOUS_ACTIVITY",
        "Ransomware behaviour",
        "Process",
        &["Mass rename of documents", "Shadow copies removed"],
        "Ransomware Shield",
        false,
    ),
    scenario(
        "VULNERABILITY",
        "Vulnerable application",
        "Application",
        &["Tarnwick Viewer 4.2"],
        "Vulnerability assessment",
        false,
    ),
    scenario(
        "APPLICATION_PATCH",
        "Patch failed",
        "Application",
        &["Tarnwick Viewer 4.3"],
        "Patch management",
        false,
    ),
    scenario("UNSPECIFIED", "", "", NONE, "", false),
];

const INSPECT: &[Scenario] = &[
    scenario(
        "EDR_RULE",
        "Rule",
        "Process",
        &[
            "Script interpreter started by a mail client [F0412]",
            "Encoded command line [A0307]",
            "Unsigned module in a signed process [C0119]",
        ],
        "Inspect",
        false,
    ),
    scenario(
        "EDR_RULE",
        "Rule",
        FILE,
        &[
            "Executable written to a startup folder [D0221]",
            "Archive with a double extension opened [B0048]",
        ],
        "Inspect",
        false,
    ),
    scenario(
        "EDR_RULE",
        "Rule",
        "Connection",
        &[
            "Rare process opens a connection [E0150]",
            "Beaconing to a fresh domain [E0177]",
        ],
        "Inspect",
        true,
    ),
];

const CLOUD: &[Scenario] = &[
    scenario(
        "ANTIVIRUS",
        "Trojan",
        "Email",
        &["JS/Palewick.AQ", "VBA/Stoathand.D"],
        "Exchange Online protection",
        false,
    ),
    scenario(
        "WEB_ACCESS",
        "Phishing",
        "Email",
        &["HTML/Ferrymark.Phish"],
        "Anti-Phishing",
        false,
    ),
    scenario(
        "SUSPICIOUS_ACTIVITY",
        "Spam",
        "Email",
        &["Spam", "Newsletter"],
        "Anti-Spam",
        false,
    ),
    scenario(
        "ANTIVIRUS",
        "Trojan",
        FILE,
        &["Win32/Marbleclaw.A"],
        "OneDrive protection",
        false,
    ),
];

/// Which field of this detection is far longer than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bulk {
    Circumstances,
    CommandLine,
    ObjectUrl,
}

/// What happened.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) product: Product,
    pub(crate) number: u64,
    pub(crate) device: u64,
    pub(crate) user: u64,
    pub(crate) occurred: Moment,
    pub(crate) scenario: &'static Scenario,
    pub(crate) name: &'static str,
    pub(crate) rule: u64,
    pub(crate) score: u64,
    pub(crate) circumstances: String,
    pub(crate) command_line: String,
    pub(crate) object_url: String,
    pub(crate) program: &'static str,
    /// The bulky field and its length, for the few that have one.
    pub(crate) bulk: Option<(Bulk, usize)>,
    /// For whatever else the record needs.
    pub(crate) dice: Dice,
}

const PROGRAMS: &[&str] = &[
    "C:\\Windows\\System32\\wscript.exe",
    "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    "C:\\Program Files\\Tarnwick\\Viewer\\viewer.exe",
    "C:\\Users\\Public\\Downloads\\invoice_2291.pdf.exe",
    "/usr/bin/python3",
    "C:\\Program Files\\Mozilla Firefox\\firefox.exe",
];

/// The number of the device that a detection is about; cheap, for incidents.
pub(crate) fn device_of(seed: u64, product: Product, number: u64) -> u64 {
    // A few devices have most of the trouble.
    let mut dice = Dice::new(seed, &[0xfac, product as u64, number]);
    let first = dice.below(DEVICES);
    first.min(dice.below(DEVICES))
}

impl Facts {
    pub(crate) fn new(seed: u64, product: Product, lane: &Lane, number: u64) -> Self {
        let mut dice = Dice::new(seed, &[0xfac7, product as u64, number]);
        let scenario = dice.pick(match product {
            Product::Protect => PROTECT,
            Product::Inspect => INSPECT,
            Product::CloudOffice => CLOUD,
        });
        let rule = dice.below(scenario.names.len() as u64);
        let name = scenario
            .names
            .get(usize::try_from(rule).unwrap_or(0))
            .copied()
            .unwrap_or("");
        let length = match dice.below(1000) {
            0..=4 => Some(dice.size(66_000, 90_000)),
            5..=44 => Some(dice.size(10_000, 60_000)),
            _ => None,
        };
        let bulk = length.map(|length| {
            (
                *dice.pick(&[Bulk::Circumstances, Bulk::CommandLine, Bulk::ObjectUrl]),
                length,
            )
        });
        let sized = |which, usual| match bulk {
            Some((bulk, length)) if bulk == which => length,
            _ => usual,
        };
        let program = *dice.pick(PROGRAMS);
        let usual = dice.size(250, 1500);
        let circumstances = words::prose(&mut dice, sized(Bulk::Circumstances, usual));
        let usual = dice.size(40, 700);
        let command_line = words::command_line(&mut dice, program, sized(Bulk::CommandLine, usual));
        let usual = dice.size(60, 400);
        let object_url = match scenario.object {
            "URL" | "Email" => words::link(&mut dice, sized(Bulk::ObjectUrl, usual)),
            FILE if !matches!(bulk, Some((Bulk::ObjectUrl, _))) => {
                format!(
                    "file:///C:/Users/Public/{}/{}.exe",
                    dice.hex(4),
                    dice.hex(6)
                )
            }
            "" => String::new(),
            _ => words::link(&mut dice, sized(Bulk::ObjectUrl, 60)),
        };
        Self {
            product,
            number,
            device: device_of(seed, product, number),
            user: dice.below(USERS),
            occurred: lane.occurred(number),
            scenario,
            name,
            rule,
            score: if dice.one_in(12) {
                0
            } else {
                dice.range(1, 101)
            },
            circumstances,
            command_line,
            object_url,
            program,
            bulk,
            dice,
        }
    }

    /// The enum constant for the score.
    pub(crate) fn severity(&self) -> &'static str {
        match (self.score, self.number % 40) {
            (0, _) => "SEVERITY_LEVEL_UNSPECIFIED",
            (_, 11) => "SEVERITY_LEVEL_INFORMATIONAL",
            (_, 31) => "SEVERITY_LEVEL_DIAGNOSTIC",
            (1..=49, _) => "SEVERITY_LEVEL_LOW",
            (50..=59, _) => "SEVERITY_LEVEL_MEDIUM",
            _ => "SEVERITY_LEVEL_HIGH",
        }
    }

    /// The enum constant of the category; now and then one that no document names.
    pub(crate) fn category(&self, edr_rule: &str) -> String {
        let name = match self.scenario.category {
            "EDR_RULE" => edr_rule,
            "SUSPICIOUS_ACTIVITY" if self.number % 17 == 3 => "BROWSER_PROTECTION",
            name => name,
        };
        format!("DETECTION_CATEGORY_{name}")
    }
}
