//! `assets`: the machine behind an address, a name or an id.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::screen::line;
use crate::{
    app::App,
    assets::{self, Lookup},
    config::{DEFAULT_CONNECTION, Settings},
    core::{
        assets::answer::{Alert, Exploit, Found, User, Vulnerability},
        record::parse_time,
    },
    error::{Error, Result},
    io::clock::SharedClock,
    status::{span, utc},
};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Say which machine an address, a host name or a device id stands for, and how it is
    Find {
        /// 10.1.2.3, 2001:db8::7, pc-17, pc-17.contoso.com, or a device id
        sought: String,
        /// As the function `Assets` answers
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn assets(
    command: Command,
    settings: &Settings,
    clock: SharedClock,
    stop: &CancellationToken,
) -> Result<()> {
    let Command::Find { sought, json } = command;
    let app = App::build(settings, &clock)?;
    match assets::find(&app, &sought, stop).await? {
        Lookup::Unknown(why) | Lookup::Unclear(why) => Err(Error::config(why)),
        Lookup::Found(answer) if json => {
            let text = serde_json::to_string_pretty(&answer)
                .map_err(|error| Error::contract(format!("cannot encode the answer: {error}")))?;
            line(text);
            Ok(())
        }
        Lookup::Found(answer) => {
            for found in &answer.machines {
                told(found, clock.now()).into_iter().for_each(line);
            }
            Ok(())
        }
    }
}

/// A machine in lines. What machines and people are called may hold anything.
fn told(found: &Found, now: DateTime<Utc>) -> Vec<String> {
    let machine = &found.machine;
    let name = machine.name.as_ref().unwrap_or(&machine.id);
    let mut lines = vec![if found.connection == DEFAULT_CONNECTION {
        name.clone()
    } else {
        format!("{name} ({})", found.connection)
    }];
    let mut say = |what: &str, parts: &[Option<String>]| {
        let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
        if !parts.is_empty() {
            lines.push(format!("  {what:<16} {}", parts.join(", ")));
        }
    };
    let some = |text: &str| Some(text.to_owned());
    let named = |what: &str, text: &Option<String>| {
        let text = text.as_ref();
        text.map(|text| format!("{what} {text}"))
    };
    say(
        "id",
        &[some(&machine.id), named("Entra", &machine.aad_device_id)],
    );
    if let Some(other) = &machine.merged_into {
        say("merged into", &[some(other)]);
    }
    let external = named("on the internet", &machine.external_address);
    let own = machine.addresses.iter().cloned().map(Some);
    say("addresses", &own.chain([external]).collect::<Vec<_>>());
    let system = [&machine.os_platform, &machine.os_version];
    let system: Vec<&str> = system.into_iter().flatten().map(String::as_str).collect();
    let build = named("build", &machine.os_build);
    say(
        "system",
        &[
            some(&system.join(" ")).filter(|text| !text.is_empty()),
            build,
        ],
    );
    say(
        "last seen",
        &[machine.last_seen.as_ref().map(|text| ago(text, now))],
    );
    say(
        "health",
        &[machine.health.clone(), machine.onboarding.clone()],
    );
    let value = named("value", &machine.value);
    say("group", &[machine.group.clone(), value]);
    say(
        "tags",
        &machine.tags.iter().cloned().map(Some).collect::<Vec<_>>(),
    );
    say(
        "risk",
        &[Some(
            machine
                .risk
                .clone()
                .unwrap_or_else(|| "not known".to_owned()),
        )],
    );
    say(
        "exposure",
        &[Some(
            machine
                .exposure
                .clone()
                .unwrap_or_else(|| "not known".to_owned()),
        )],
    );
    match (&found.users, &found.users_missing) {
        (Some(users), _) if users.is_empty() => say("users", &[some("none")]),
        (Some(users), _) => say(
            "users",
            &users
                .iter()
                .map(|one| Some(user(one, now)))
                .collect::<Vec<_>>(),
        ),
        (None, why) => say("users", &[named("not known:", why)]),
    }
    let is_known = |until: Option<DateTime<Utc>>, total: usize| match until {
        None if total == 0 => "not pulled yet".to_owned(),
        _ => total.to_string(),
    };
    let alerts = &found.alerts;
    say(
        "open alerts",
        &[Some(is_known(found.synced.alerts, alerts.total))],
    );
    for one in &alerts.open {
        say("", &[Some(alert(one, now))]);
    }
    let vulnerabilities = &found.vulnerabilities;
    let total = is_known(found.synced.vulnerabilities, vulnerabilities.total);
    say("vulnerabilities", &[Some(total)]);
    for one in &vulnerabilities.worst {
        say("", &[Some(vulnerability(one))]);
    }
    let synced = &found.synced;
    let until = |what: &str, until: Option<DateTime<Utc>>| {
        until.map(|until| format!("{what} {} ({} ago)", utc(until), age(until, now)))
    };
    say(
        "as of",
        &[
            until("machines", synced.machines),
            until("alerts", synced.alerts),
            until("vulnerabilities", synced.vulnerabilities),
        ],
    );
    lines.iter().map(|line| plain(line)).collect()
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

/// Without what a terminal would obey.
fn plain(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    text.trim_end().to_owned()
}
