//! Each setting and each dependency, one line each: what was tried, and how to mend what is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, saved::stored_states, scale_out::QueueStatus},
    config::{Environment, Mode, Problem, SETTINGS, Scope, SecretSource, Setting, Settings},
    core::{
        count::counted,
        position::{
            cursor::{Slice, StreamKey, StreamState},
            paging::Page,
            window::{Passes, Window, delta},
        },
        protocol::{roles::Beyond, source_kind::SourceKind},
    },
    error::{Error, Result},
    io::{
        clock::{Clock, Elapsed, timeout},
        exchange::Reply,
        expiry::{self, Lasts},
        retry::Limits,
    },
    pipeline::{self, Job, Parts},
    sink::{PushError, Sink},
    source::{endpoints, remarks},
    storage::Storage,
};

pub mod estimate;
mod queue;
mod quiet;
mod sample;
pub mod volume;

/// How long all dependencies together may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long one answer may take: what does not answer by then is away, and is told in one line.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);

/// Tells of what was not asked for want of time.
const NOT_TRIED: &str =
    "not tried: the time for all of them was up; `check --connection NAME` tries one alone";

/// From how many days before its end a credential is warned of.
pub const WARN_DAYS: i64 = 30;

/// How a thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// As it should be.
    Ok,
    /// Worth knowing, and no reason to fail.
    Note,
    /// To be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it was found.
    pub found: Found,
    /// A setting, a dependency or a stream.
    pub what: String,
    /// What was tried, and how to mend it. Never a secret.
    pub text: String,
}

/// Saved states by stream; one that can't be read has its error in its place.
pub type SavedStates = BTreeMap<StreamKey, Result<StreamState>>;

/// What the last runs left in the storage.
pub struct LeftByRuns {
    /// Where the streams stand.
    pub states: SavedStates,
    /// What waits.
    pub waiting: LeftWaiting,
    /// What streams sign in with that ends one day, each named once.
    pub secrets: Vec<Lasts>,
}

/// Rows that wait for the sink, and records that wait for somebody to look; none where that can't be read.
#[derive(Default)]
pub struct LeftWaiting {
    /// Entries of the outbox, and their bytes.
    pub outbox: Option<(u64, u64)>,
    /// Dead letters.
    pub dead_letters: Option<u64>,
}

/// Is given each finding as it is made.
pub type Tell<'a> = &'a mut (dyn FnMut(Finding) + Send);

struct Findings<'a>(Tell<'a>);

impl Findings<'_> {
    fn tell(&mut self, found: Found, what: &str, text: &str) {
        (self.0)(Finding {
            found,
            what: what.to_owned(),
            text: text.to_owned(),
        });
    }

    fn ok(&mut self, what: &str, text: &str) {
        self.tell(Found::Ok, what, text);
    }

    fn note(&mut self, what: &str, text: &str) {
        self.tell(Found::Note, what, text);
    }

    fn bad(&mut self, what: &str, text: &str) {
        self.tell(Found::Bad, what, text);
    }
}

/// Looks at the settings, as a program that is started in this mode reads them.
pub fn settings(environment: &Environment, mode: Mode, tell: Tell<'_>) -> Option<Settings> {
    check_settings(environment, mode, &mut Findings(tell))
}

/// Looks at everything that the settings point at.
pub async fn dependencies(app: &App, tell: Tell<'_>) {
    check_dependencies(app, &mut Findings(tell)).await;
}

/// Looks at what the connections read.
pub async fn sources(app: &App, tell: Tell<'_>) {
    check_sources(app, None, &mut Findings(tell)).await;
}

/// Looks at where rows go.
pub async fn sink(app: &App, tell: Tell<'_>) {
    check_sink(&*app.parts().sink, &app.tables(), &mut Findings(tell)).await;
}

/// Looks at the queue of lanes, where there is one, and says how it stands if it can be told.
pub async fn queue(app: &App, tell: Tell<'_>) -> Option<QueueStatus> {
    queue::check(app, &mut Findings(tell)).await
}

/// Looks at what is kept, and whether it may be written to.
pub async fn storage(storage: &dyn Storage, tell: Tell<'_>) {
    check_storage(storage, &mut Findings(tell)).await;
}

fn check_settings(
    environment: &Environment,
    mode: Mode,
    findings: &mut Findings<'_>,
) -> Option<Settings> {
    let loaded = Settings::load(environment, mode);
    let (problems, warnings): (Vec<&Problem>, _) = match &loaded {
        Ok(settings) => (settings.problems().collect(), &settings.warnings),
        Err(problems) => (problems.problems.iter().collect(), &problems.warnings),
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
            findings.ok(setting.name, &shown(setting, environment));
        }
    }
    for problem in open.values().flatten() {
        findings.bad(&problem.setting, &problem.to_string());
    }
    for warning in warnings {
        findings.note(&warning.setting, &warning.to_string());
    }
    let loaded = loaded.ok();
    for connection in loaded.iter().flat_map(|settings| &settings.connections) {
        if let Some(SecretSource::Vault { url, name, .. }) = connection.source.secret() {
            let what = format!("{}: secret", connection.name);
            let vault = url.trim_start_matches("https://");
            findings.ok(&what, &format!("`{name}` of key vault `{vault}`"));
        }
        let streams: Vec<&str> = endpoints().map(|endpoint| endpoint.stream).collect();
        for problem in connection.streams.unknown(&streams) {
            findings.note(&problem.setting, &problem.to_string());
        }
        for remark in remarks(connection.source.kind(), &connection.choices) {
            let text = format!("{}: {}", connection.name, remark.text);
            findings.note(remark.setting, &text);
        }
    }
    loaded
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

async fn check_dependencies(app: &App, findings: &mut Findings<'_>) {
    let parts = app.parts();
    let states = check_storage(&*parts.storage, findings).await;
    queue::check(app, findings).await;
    check_sink(&*parts.sink, &app.tables(), findings).await;
    check_sources(app, states.as_ref(), findings).await;
    check_expiries(app, parts.clock.now(), findings).await;
}

async fn check_sources(app: &App, states: Option<&SavedStates>, findings: &mut Findings<'_>) {
    let limits = app.limits_of(PATIENCE, CancellationToken::new());
    let mut connected = app.connected().peekable();
    if connected.peek().is_none() && app.refused().next().is_none() {
        findings.bad(
            "connections",
            "there is none: set `ESET_REGION`, `ESET_LOGIN` and `ESET_PASSWORD`, or \
             `DEFENDER_TENANT_ID`, or `CONNECTIONS`",
        );
    } else if connected.peek().is_some() && app.jobs().next().is_none() {
        findings.bad("connections", "no stream is switched on: nothing is pulled");
    }
    let tries: Vec<_> = connected
        .enumerate()
        .map(|(place, (name, kind))| {
            let tried = try_connection(app, name, kind, &limits, states);
            tried.map(move |own| (place, own)).boxed()
        })
        .collect();
    // Side by side, and told in the order of the settings: one that is slow holds up no other.
    let mut tried = stream::iter(tries).buffer_unordered(app.streams_at_once());
    let (mut early, mut next) = (BTreeMap::new(), 0);
    while let Some((place, own)) = tried.next().await {
        early.insert(place, own);
        while let Some(own) = early.remove(&next) {
            own.into_iter().for_each(&mut *findings.0);
            next += 1;
        }
    }
    for (connection, error) in app.refused() {
        findings.bad(&format!("{connection}: login"), &error.to_string());
    }
}

/// Logs in to a connection and asks for each of its streams, one after the other.
async fn try_connection(
    app: &App,
    name: &str,
    kind: SourceKind,
    limits: &Limits,
    states: Option<&SavedStates>,
) -> Vec<Finding> {
    let clock = &*app.parts().clock;
    let mut own = Vec::new();
    let mut tell = |finding| own.push(finding);
    let findings = &mut Findings(&mut tell);
    let jobs = app.jobs_of_connection(name, kind);
    // Who would be cut short is not called bad for it.
    let is_late = || clock.now() + delta(ANSWER_PATIENCE) > limits.deadline;
    if is_late() {
        findings.note(name, NOT_TRIED);
        return own;
    }
    // Whoever can't log in is told so once, not by each stream.
    let mut shut = BTreeSet::new();
    for login in app.logins(name, kind, ANSWER_PATIENCE).await {
        let whose = login.resource.map(|resource| format!(" for {resource}"));
        let what = format!("{name}: login{}", whose.unwrap_or_default());
        match login.beyond {
            Ok(beyond) => {
                findings.ok(&what, &format!("{} granted an access token", login.issuer));
                for role in &beyond {
                    findings.note(&what, &role_note(role));
                }
            }
            Err(error) => {
                shut.extend(login.opens);
                findings.bad(&what, &format!("{error:#}"));
            }
        }
    }
    let mut seen = quiet::Seen::default();
    for job in jobs {
        if !shut.contains(job.key.stream.as_str()) {
            if is_late() {
                findings.note(&job.key.to_string(), NOT_TRIED);
            } else if check_stream(job, findings, limits, clock).await {
                seen.look(job, limits, clock).await;
            }
        }
        if let Some(states) = states {
            tell_saved(job, states.get(&job.key), Found::Note, findings);
        }
    }
    seen.tell(findings);
    own
}

/// Looks at what the last runs left, and asks no source and no sink: a thousand connections are told
/// in no time. Gives back what was read.
pub async fn left_by_runs(app: &App, tell: Tell<'_>) -> LeftByRuns {
    let findings = &mut Findings(tell);
    let Parts { storage, clock, .. } = app.parts();
    let states = match timeout(&**clock, ANSWER_PATIENCE, stored_states(&**storage)).await {
        Ok(states) => states,
        // Whoever retries for minutes says why within seconds when it is asked whether it works.
        Err(Elapsed) => Err(storage.check().await.err().unwrap_or_else(|| {
            Error::transient("the saved states were not to be had in time: ask again")
        })),
    };
    let is_known = states.is_ok();
    let states = tell_states(states, findings);
    let mut waiting = LeftWaiting::default();
    if is_known {
        waiting = check_waiting(&**storage, findings).await;
        for job in app.jobs() {
            tell_saved(job, states.get(&job.key), Found::Bad, findings);
        }
    }
    for (connection, error) in app.refused() {
        findings.bad(&format!("{connection}: login"), &error.to_string());
    }
    let secrets = check_expiries(app, clock.now(), findings).await;
    LeftByRuns {
        states,
        waiting,
        secrets,
    }
}

/// How a stream's saved state stands, as far as it is news; `failed` is how its failure counts.
fn tell_saved(
    job: &Job,
    saved: Option<&Result<StreamState>>,
    failed: Found,
    findings: &mut Findings<'_>,
) {
    let what = job.key.to_string();
    match saved {
        Some(Ok(state)) => {
            tell_rest(job, state, findings);
            if let Some(error) = &state.error {
                findings.tell(failed, &what, &format!("its last run failed: {error}"));
            }
            for gap in &state.gaps {
                let (from, to) = (gap.from.format("%F %R"), gap.to.format("%F %R"));
                findings.note(&what, &format!("gap {from} to {to} UTC: {}", gap.why));
            }
        }
        Some(Err(error)) => findings.bad(&what, &error.to_string()),
        None => findings.note(&what, "has not run yet"),
    }
}

/// Behind the logins, which have asked for the passwords.
async fn check_expiries(app: &App, now: DateTime<Utc>, findings: &mut Findings<'_>) -> Vec<Lasts> {
    let mut told: Vec<Lasts> = Vec::new();
    let mut names = BTreeSet::new();
    for job in app.jobs() {
        for lasts in expiry::all(&job.expiring, now).await {
            if !names.insert(lasts.name.clone()) {
                continue;
            }
            let Lasts { name, days_left } = &lasts;
            let days_left = *days_left;
            match days_left {
                ..0 => findings.bad(
                    name,
                    &format!(
                        "has ended {} ago: put a new one in its place",
                        days(days_left)
                    ),
                ),
                0..=WARN_DAYS => findings.note(
                    name,
                    &format!(
                        "ends in {}: put a new one in its place before",
                        days(days_left)
                    ),
                ),
                _ => findings.ok(name, &format!("lasts {}", days(days_left))),
            }
            told.push(lasts);
        }
    }
    told.sort_by_key(|lasts| lasts.days_left);
    told
}

/// So many days, whichever way.
fn days(left: i64) -> String {
    counted(left.unsigned_abs(), "day")
}

/// Hands over no rows at all: enough to know whether some would be taken.
async fn check_sink(sink: &dyn Sink, tables: &[&str], findings: &mut Findings<'_>) {
    for table in tables {
        let what = format!("sink: {table}");
        match sink.check(table).await {
            Ok(()) => findings.ok(&what, "takes rows"),
            // Nor would it answer for another table.
            Err(PushError::Later(error) | PushError::Failed(error)) if error.is_unanswered() => {
                findings.bad(&what, &format!("{error:#}"));
                return;
            }
            Err(error) => findings.bad(&what, &error.to_string()),
        }
    }
}

/// Saved states; `None` when nothing can be read from the storage, which is told once.
async fn check_storage(storage: &dyn Storage, findings: &mut Findings<'_>) -> Option<SavedStates> {
    if let Err(error) = storage.check().await {
        findings.bad("storage", &format!("{error:#}"));
        return None;
    }
    let states = tell_states(stored_states(storage).await, findings);
    for error in storage.refused_writes().await {
        findings.bad("storage", &error.to_string());
    }
    check_waiting(storage, findings).await;
    Some(states)
}

/// How many states there are, and which of them can't be read.
fn tell_states(
    states: Result<Vec<(StreamKey, Result<StreamState>)>>,
    findings: &mut Findings<'_>,
) -> SavedStates {
    let states = match states {
        Ok(states) => SavedStates::from_iter(states),
        Err(error) => {
            findings.bad("storage", &format!("{error:#}"));
            return SavedStates::new();
        }
    };
    let damaged = states.iter().filter(|(_, state)| state.is_err());
    let damaged: Vec<String> = damaged.map(|(key, _)| format!("`{key}`")).collect();
    let read = states.len() - damaged.len();
    if read > 0 || damaged.is_empty() {
        findings.ok(
            "storage",
            &format!("positions of {}", counted(read as u64, "stream")),
        );
    }
    if !damaged.is_empty() {
        let what = format!(
            "the saved states of {} cannot be read: `cursor show` says why",
            damaged.join(", ")
        );
        findings.bad("storage", &what);
    }
    states
}

/// What waits for the sink, or for somebody to look.
async fn check_waiting(storage: &dyn Storage, findings: &mut Findings<'_>) -> LeftWaiting {
    let outbox = storage.outbox_size().await;
    match &outbox {
        Ok((0, _)) => findings.ok("outbox", "nothing waits"),
        Ok((count, bytes)) => findings.note(
            "outbox",
            &format!(
                "{} of {} {} for the sink; `outbox list` says why",
                counted(*count, "batch"),
                counted(*bytes, "byte"),
                if *count == 1 { "waits" } else { "wait" }
            ),
        ),
        Err(error) => findings.bad("outbox", &error.to_string()),
    }
    let dead_letters = storage.count_dead_letters().await;
    match &dead_letters {
        Ok(0) => findings.ok("dead letters", "none"),
        Ok(count) => findings.note(
            "dead letters",
            &format!(
                "{} {} refused; `dead list` says why",
                counted(*count, "record"),
                if *count == 1 { "was" } else { "were" }
            ),
        ),
        Err(error) => findings.bad("dead letters", &error.to_string()),
    }
    LeftWaiting {
        outbox: outbox.ok(),
        dead_letters: dead_letters.ok(),
    }
}

/// Asks for the stream's last minute: enough to know that it may be read. True when it may.
async fn check_stream(
    job: &Job,
    findings: &mut Findings<'_>,
    limits: &Limits,
    clock: &dyn Clock,
) -> bool {
    let what = job.key.to_string();
    let now = clock.now();
    let slice = match job.pace.passes {
        Passes::Only(_) => Slice::Pass,
        _ => Slice::Window(Window {
            from: now - delta(Duration::from_mins(1)),
            to: now,
        }),
    };
    let endpoint = job.source.endpoint();
    match job.source.page(&slice, &Page::First, limits).await {
        Ok((Reply::Answer(response), records)) => {
            let date = response.date();
            let looked = pipeline::look_through(job, slice, response, records, limits, clock).await;
            match &looked {
                Ok(_) => findings.ok(&what, "may be read"),
                Err(error) => findings.bad(&what, &error.to_string()),
            }
            let ahead = date.map(|theirs| clock.now() - theirs);
            if let Some(note) = ahead.and_then(clock_note) {
                findings.note(&what, &note);
            }
            return looked.is_ok();
        }
        Ok((Reply::NotOffered(how) | Reply::NotThere(how), _)) => {
            findings.bad(&what, &format!("{how}: {}", endpoint.off_fix));
        }
        Ok((Reply::Forbidden(how), _)) => {
            findings.bad(&what, &format!("{how}: {}", endpoint.fix));
        }
        Ok((Reply::TooLarge(how) | Reply::UsedUp(how), _)) => {
            findings.note(&what, &format!("may be read, but not now: {how}"));
        }
        Ok((Reply::PositionRefused(how) | Reply::Unexpected(how, _), _)) => {
            findings.bad(
                &what,
                &format!(
                    "{how}: not as documented: does a proxy or a gateway answer in the \
                     service's place?"
                ),
            );
        }
        Err(error) => findings.bad(&what, &error.to_string()),
    }
    false
}

/// Whether the stream rests although it may be read by now: nobody asks until then.
fn tell_rest(job: &Job, state: &StreamState, findings: &mut Findings<'_>) {
    let Some(since) = state.off else { return };
    let utc = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M UTC");
    let mut text = format!("is off since {}", utc(since));
    if state.has_worked() {
        text.push_str(", though it was read before");
    }
    if let Some(until) = state.off_until {
        text = format!("{text}, and is asked again from {} on", utc(until));
    }
    if let Some(why) = &state.off_why {
        text = format!("{text}: {why}");
    }
    findings.note(&job.key.to_string(), &text);
}

/// What to say of a role that no stream needs.
fn role_note(beyond: &Beyond) -> String {
    let role = &beyond.role;
    let more = if beyond.is_more_than_reading() {
        " (more than reading)"
    } else {
        ""
    };
    match beyond.instead {
        Some(enough) => {
            format!(
                "the app holds `{role}`{more} where `{enough}` is enough: grant that in its place"
            )
        }
        None => format!(
            "the app holds `{role}`{more}, and no stream that is pulled needs it: take it away"
        ),
    }
}

/// What to say of a clock that is ahead of the source's by so much.
fn clock_note(ahead: TimeDelta) -> Option<String> {
    let (minutes, way) = match ahead.num_minutes() {
        0 => return None,
        ahead if ahead > 0 => (ahead, "ahead of"),
        behind => (-behind, "behind"),
    };
    Some(format!(
        "our clock is {minutes} min {way} the source's: correct it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_by_minutes_is_told() {
        let note = |seconds| clock_note(TimeDelta::seconds(seconds));
        assert_eq!((note(59), note(-59)), (None, None));
        assert_eq!(
            note(125).unwrap(),
            "our clock is 2 min ahead of the source's: correct it"
        );
        assert_eq!(
            note(-3_600).unwrap(),
            "our clock is 60 min behind the source's: correct it"
        );
    }
}
