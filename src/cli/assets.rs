//! `assets`: the machine behind an address, a name or an id.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::screen::{self, Screen, SheetColumn, plain};
use crate::{
    app::App,
    assets::{self, Lookup},
    config::{DEFAULT_CONNECTION, Settings},
    core::{
        json::time::parse_time,
        mapping::assets::answer::{Alert, Exploit, Found, Machine, Synced, User, Vulnerability},
    },
    error::{Error, Result},
    io::clock::SharedClock,
    status::{span, utc},
};

#[derive(clap::Subcommand)]
pub(super) enum AssetsCommand {
    /// Say which machine an address, a host name or a device id stands for, and how it is
    Find {
        /// An address, a host name such as pc-17 or pc-17.contoso.com, or a device id
        sought: String,
        /// As the function `Assets` answers
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn assets(
    command: AssetsCommand,
    settings: &Settings,
    clock: SharedClock,
    stop: &CancellationToken,
    screen: Screen,
) -> Result<()> {
    let AssetsCommand::Find { sought, json } = command;
    let app = App::build(settings, &clock)?;
    match assets::find(&app, &sought, stop).await? {
        Lookup::Unknown(why) | Lookup::Unclear(why) => Err(Error::config(why)),
        Lookup::Found(answer) => {
            let screen = screen.or_json(json);
            if !screen.data_of(&answer, &MACHINES, &answer.machines)? {
                for found in &answer.machines {
                    let told = told(found, clock.now());
                    for line in &told {
                        screen::hanging(line, BESIDE);
                    }
                }
            }
            Ok(())
        }
    }
}

/// Of a machine, in a list.
const MACHINES: [SheetColumn<Found>; 21] = [
    SheetColumn::data("connection"),
    SheetColumn::data("id"),
    SheetColumn::data("name"),
    SheetColumn::data("aadDeviceId"),
    SheetColumn::data("addresses"),
    SheetColumn::data("externalAddress"),
    SheetColumn::data("osPlatform"),
    SheetColumn::data("osVersion"),
    SheetColumn::data("osBuild"),
    SheetColumn::data("firstSeen"),
    SheetColumn::data("lastSeen"),
    SheetColumn::data("health"),
    SheetColumn::data("onboarding"),
    SheetColumn::data("value"),
    SheetColumn::data("group"),
    SheetColumn::data("tags"),
    SheetColumn::data("risk"),
    SheetColumn::data("exposure"),
    SheetColumn::data("mergedInto"),
    SheetColumn::data("users"),
    SheetColumn::data("alerts"),
];

/// Where the text stands beside what it is about.
const BESIDE: usize = 19;

/// Lines about one thing each.
struct AnswerLines(Vec<String>);

impl AnswerLines {
    /// A line, unless it would say nothing.
    fn say(&mut self, what: &str, parts: impl IntoIterator<Item = Option<String>>) {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            let parts = parts.join(", ");
            self.0.push(format!("  {what:<16} {parts}"));
        }
    }
}

/// A machine in lines. What machines and people are called may hold anything.
fn told(found: &Found, now: DateTime<Utc>) -> Vec<String> {
    let machine = &found.machine;
    let name = machine.name.as_ref().unwrap_or(&machine.id);
    let mut lines = AnswerLines(vec![if found.connection == DEFAULT_CONNECTION {
        name.clone()
    } else {
        format!("{name} ({})", found.connection)
    }]);
    tell_machine(&mut lines, machine, now);
    tell_belongings(&mut lines, found, now);
    lines.0.iter().map(|line| plain(line)).collect()
}

fn tell_machine(lines: &mut AnswerLines, machine: &Machine, now: DateTime<Utc>) {
    let named = |what: &str, text: &Option<String>| {
        let text = text.as_ref();
        text.map(|text| format!("{what} {text}"))
    };
    let or_unknown = |text: &Option<String>| text.clone().or(Some("not known".to_owned()));
    let entra = named("Entra", &machine.aad_device_id);
    lines.say("id", [Some(machine.id.clone()), entra]);
    lines.say("merged into", [machine.merged_into.clone()]);
    let external = named("on the internet", &machine.external_address);
    let own = machine.addresses.iter().cloned().map(Some);
    lines.say("addresses", own.chain([external]));
    let build = named("build", &machine.os_build);
    let system = [&machine.os_platform, &machine.os_version, &build];
    let system: Vec<&str> = system.into_iter().flatten().map(String::as_str).collect();
    lines.say(
        "system",
        [Some(system.join(" ")).filter(|text| !text.is_empty())],
    );
    let seen = machine.last_seen.as_ref();
    lines.say("last seen", [seen.map(|text| ago(text, now))]);
    lines.say(
        "health",
        [machine.health.clone(), machine.onboarding.clone()],
    );
    let value = named("value", &machine.value);
    lines.say("group", [machine.group.clone(), value]);
    lines.say("tags", machine.tags.iter().cloned().map(Some));
    lines.say("risk", [or_unknown(&machine.risk)]);
    lines.say("exposure", [or_unknown(&machine.exposure)]);
}

fn tell_belongings(lines: &mut AnswerLines, found: &Found, now: DateTime<Utc>) {
    match (&found.users, &found.users_missing) {
        (Some(users), _) if users.is_empty() => lines.say("users", [Some("none".to_owned())]),
        (Some(users), _) => lines.say("users", users.iter().map(|one| Some(user(one, now)))),
        (None, why) => lines.say(
            "users",
            [why.as_ref().map(|why| format!("not known: {why}"))],
        ),
    }
    let Synced {
        machines,
        alerts,
        vulnerabilities,
    } = found.synced;
    let total = |until: Option<DateTime<Utc>>, total: usize| match until {
        None if total == 0 => Some("not pulled yet".to_owned()),
        _ => Some(total.to_string()),
    };
    lines.say("open alerts", [total(alerts, found.alerts.total)]);
    for one in &found.alerts.open {
        lines.say("", [Some(alert(one, now))]);
    }
    let known = total(vulnerabilities, found.vulnerabilities.total);
    lines.say("vulnerabilities", [known]);
    for one in &found.vulnerabilities.worst {
        lines.say("", [Some(vulnerability(one))]);
    }
    let until = |what: &str, until: Option<DateTime<Utc>>| {
        until.map(|until| format!("{what} {} ({} ago)", utc(until), age(until, now)))
    };
    lines.say(
        "as of",
        [
            until("machines", machines),
            until("alerts", alerts),
            until("vulnerabilities", vulnerabilities),
        ],
    );
}

fn user(user: &User, now: DateTime<Utc>) -> String {
    let names = [&user.domain, &user.account];
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    let seen = user.last_seen.as_deref().and_then(parse_time);
    let seen = seen.map_or_else(String::new, |seen| format!(" ({} ago)", age(seen, now)));
    let admin = if user.is_domain_admin == Some(true) {
        ", administrator of the domain"
    } else {
        ""
    };
    format!("{}{seen}{admin}", names.join("\\"))
}

fn alert(alert: &Alert, now: DateTime<Utc>) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let raised = alert.created.as_deref().and_then(parse_time);
    let raised = raised.map_or_else(String::new, |at| format!("{} ago", age(at, now)));
    format!(
        "{:<13} {:<20} {} ({})",
        text(&alert.severity),
        raised,
        text(&alert.title),
        alert.id
    )
}

fn vulnerability(one: &Vulnerability) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let exploit = match one.exploit {
        None | Some(Exploit::None) => "",
        Some(Exploit::Public) => "exploit public",
        Some(Exploit::Verified) => "exploit verified",
        Some(Exploit::Kit) => "exploit in kits",
    };
    let score = one
        .cvss
        .map_or_else(String::new, |score| format!("{score:.1}"));
    format!(
        "{:<13} {score:<4} {exploit:<16} {:<18} {} {}",
        text(&one.severity),
        text(&one.cve),
        text(&one.product),
        text(&one.version),
    )
}

/// A time of the source, and how long ago it was.
fn ago(text: &str, now: DateTime<Utc>) -> String {
    parse_time(text).map_or_else(
        || text.to_owned(),
        |at| format!("{} ({} ago)", utc(at), age(at, now)),
    )
}

/// In the two largest units: nobody counts the seconds of a day.
fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let words = span((now - at).num_seconds());
    words.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
