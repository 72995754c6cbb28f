//! `check`: each setting and each dependency, one line each: what was tried, and how to mend it.

use std::{collections::BTreeMap, time::Duration};

use tokio_util::sync::CancellationToken;

use super::screen;
use crate::{
    app::{App, FUNCTIONS},
    config::{Environment, Mode, Problem, SETTINGS, Scope, Setting, Settings},
    core::{
        columns,
        cursor::{Slice, StreamState},
        window::{Window, delta},
    },
    error::{Error, Result},
    io::{
        clock::SharedClock,
        exchange::{Limits, Reply},
    },
    pipeline::Job,
    storage::Storage,
};

/// How long all dependencies together may take.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Settings alone, without opening or asking anything
    #[arg(long)]
    offline: bool,
}

/// The lines, and whether all is well so far.
#[derive(Default)]
struct Findings {
    bad: usize,
}

impl Findings {
    fn ok(what: &str, found: &str) {
        screen::line(format!("ok    {what:<32} {found}"));
    }

    /// Worth knowing, and no reason to fail.
    fn note(what: &str, found: &str) {
        screen::line(format!("note  {what:<32} {found}"));
    }

    fn bad(&mut self, what: &str, found: &str) {
        self.bad += 1;
        screen::line(format!("BAD   {what:<32} {found}"));
    }
}

pub(super) async fn check(
    arguments: Arguments,
    environment: &Environment,
    clock: SharedClock,
) -> Result<()> {
    let mut findings = Findings::default();
    let settings = check_settings(environment, &mut findings);
    if let (Some(settings), false) = (settings, arguments.offline) {
        check_dependencies(&settings, &mut findings, clock).await;
    }
    match findings.bad {
        0 => Ok(()),
        1 => Err(Error::config(
            "1 line says BAD: its end says how to mend it",
        )),
        bad => Err(Error::config(format!(
            "{bad} lines say BAD: their ends say how to mend it"
        ))),
    }
}

fn check_settings(environment: &Environment, findings: &mut Findings) -> Option<Settings> {
    let loaded = Settings::load(environment, Mode::Local);
    let (problems, warnings) = match &loaded {
        Ok(settings) => (&[] as &[Problem], &settings.warnings),
        Err(problems) => (problems.problems.as_slice(), &problems.warnings),
    };
    let mut open: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        open.entry(&problem.setting).or_default().push(problem);
    }
    for setting in SETTINGS
        .iter()
        .filter(|setting| setting.scope != Scope::Platform)
    {
        let names = [&[setting.name], setting.aliases].concat();
        let wrong: Vec<_> = names
            .iter()
            .filter_map(|name| open.remove(name))
            .flatten()
            .collect();
        for problem in &wrong {
            findings.bad(setting.name, &problem.to_string());
        }
        if wrong.is_empty() {
            Findings::ok(setting.name, &shown(setting, environment));
        }
    }
    for problem in open.values().flatten() {
        findings.bad(&problem.setting, &problem.to_string());
    }
    for warning in warnings {
        Findings::note(&warning.setting, &warning.to_string());
    }
    loaded.ok()
}

/// A setting's value; of a secret only that there is one.
fn shown(setting: &Setting, environment: &Environment) -> String {
    let names = [&[setting.name], setting.aliases].concat();
    match names
        .iter()
        .find_map(|name| Some((*name, environment.get(name)?)))
    {
        Some((name, _)) if setting.secret => format!("is set{}", by_alias(setting, name)),
        Some((name, value)) => format!("{value}{}", by_alias(setting, name)),
        None if setting.default.is_empty() => "not set".to_owned(),
        None => format!("{} (default)", setting.default),
    }
}

fn by_alias(setting: &Setting, name: &str) -> String {
    if name == setting.name {
        String::new()
    } else {
        format!(" (as `{name}`)")
    }
}

async fn check_dependencies(settings: &Settings, findings: &mut Findings, clock: SharedClock) {
    let app = match App::build(settings, &clock) {
        Ok(app) => app,
        Err(error) => return findings.bad("embedded file", &error.to_string()),
    };
    let parts = app.parts();
    check_storage(&*parts.storage, findings).await;
    Findings::ok(
        "sink",
        &format!(
            "tables {} and {}",
            columns::DETECTIONS.name,
            columns::INCIDENTS.name
        ),
    );
    let limits = Limits {
        deadline: clock.now() + delta(PATIENCE),
        stop: CancellationToken::new(),
    };
    let mut logins = 0;
    for (name, connection) in app.connections() {
        logins += 1;
        let what = format!("{name}: login");
        match connection.log_in(&limits).await {
            Ok(()) => Findings::ok(&what, "ESET granted an access token"),
            Err(error) => findings.bad(&what, &error.to_string()),
        }
    }
    if logins == 0 {
        findings.bad(
            "connections",
            "there is none: set `ESET_REGION`, `ESET_LOGIN` and `ESET_PASSWORD`, or `CONNECTIONS`",
        );
    }
    for job in FUNCTIONS.iter().flat_map(|function| app.jobs(function)) {
        check_stream(job, findings, &limits, &clock).await;
        match parts.storage.load(&job.key).await {
            Ok(Some((state, _))) => tell_state(job, &state),
            Ok(None) => Findings::note(&job.key.to_string(), "has not run yet"),
            Err(error) => findings.bad(&job.key.to_string(), &error.to_string()),
        }
    }
}

async fn check_storage(storage: &dyn Storage, findings: &mut Findings) {
    match storage.states().await {
        Ok(states) => Findings::ok("storage", &format!("positions of {} streams", states.len())),
        Err(error) => findings.bad("storage", &error.to_string()),
    }
    match storage.count_dead_letters().await {
        Ok(0) => Findings::ok("dead letters", "none"),
        Ok(count) => Findings::note(
            "dead letters",
            &format!("{count} records were refused; `connector_dead_letters` says why"),
        ),
        Err(error) => findings.bad("dead letters", &error.to_string()),
    }
}

/// Asks for the stream's last minute: enough to know that it may be read.
async fn check_stream(job: &Job, findings: &mut Findings, limits: &Limits, clock: &SharedClock) {
    let what = job.key.to_string();
    let now = clock.now();
    let slice = Slice::Window(Window {
        from: now - delta(Duration::from_mins(1)),
        to: now,
    });
    match job.source.page(&slice, "", limits).await {
        Ok((Reply::Answer(_), _)) => Findings::ok(&what, "may be read"),
        Ok((Reply::NotOffered(how), _)) => findings.bad(
            &what,
            &format!(
                "{how}: this tenant does not offer it; take the product out of `ESET_PRODUCTS`, or \
                 (Cloud Office Security) log in to it once as the API user"
            ),
        ),
        Ok((Reply::Forbidden(how), _)) => findings.bad(
            &what,
            &format!(
                "{how}: give the API user read access, or take the product out of `ESET_PRODUCTS`"
            ),
        ),
        Ok((Reply::PositionRefused(how) | Reply::Unexpected(how, _), _)) => {
            findings.bad(
                &what,
                &format!("{how}: not as documented; please report it"),
            );
        }
        Err(error) => findings.bad(&what, &error.to_string()),
    }
}

fn tell_state(job: &Job, state: &StreamState) {
    let what = job.key.to_string();
    if let Some(error) = &state.error {
        Findings::note(&what, &format!("its last run failed: {error}"));
    }
    for gap in &state.gaps {
        let (from, to) = (gap.from.format("%F %R"), gap.to.format("%F %R"));
        Findings::note(&what, &format!("gap {from} to {to} UTC: {}", gap.why));
    }
}
