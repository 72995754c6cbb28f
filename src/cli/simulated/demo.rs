//! `demo`: the real work on embedded defaults, against a simulated company over real HTTPS.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    data_folder,
    run::{once, show_status},
    screen::{self, Saved, Screen},
    stop_on_signal,
};
use crate::{
    app::{App, Function, failed, live::Live},
    config::{Environment, Mode, Settings},
    core::count::noun,
    embedded::EmbeddedFile,
    error::{Error, Result},
    io::{
        clock::{Clock, SharedClock},
        http::{Network, SharedTransport},
    },
    logging,
    pipeline::{Counts, Report},
    simulator::{Options, Simulator, tls, world::defender::Estate},
    sink::workspace::Workspace,
};

/// What the simulated world is a function of, beside the time.
const WORLD_FILE: &str = "world.json";

/// The seed of a new world.
const SEED: u64 = 2026;

/// Events of a day in each table of advanced hunting: enough to look at.
pub(super) const EVENTS: f64 = 300.0;

/// What is pulled of Defender.
const DEFENDER: [(&str, &str); 4] = [
    (
        "DEFENDER_STREAMS",
        "machines,vulnerabilities,software-vulnerabilities,alerts,incidents",
    ),
    (
        "DEFENDER_HUNTING_TABLES",
        "DeviceLogonEvents,DeviceProcessEvents",
    ),
    // A tenant has 45 queries a minute: a day by the hour would use them up.
    ("DEFENDER_HUNTING_DEVICELOGONEVENTS_STEP", "12h"),
    ("DEFENDER_HUNTING_DEVICEPROCESSEVENTS_STEP", "12h"),
];

/// The demo ends by itself: what does not fit is left to the next one.
const BUDGET_SECONDS: &str = "50";

/// How often `--keep` pulls.
const PULL_EVERY: Duration = Duration::from_secs(10);

/// Where `--keep` shows the status page; on another port when somebody has this one.
const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8070);
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[derive(clap::Args)]
pub(in crate::cli) struct DemoArguments {
    /// Stay on, keep pulling as time goes by and show the status page, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// The world that belongs to a folder of data: with it, a later start goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorldOrigin {
    pub(super) seed: u64,
    pub(super) start: DateTime<Utc>,
}

impl WorldOrigin {
    /// That of the folder, else a new one, which is kept there.
    pub(super) fn of(folder: &Path, seed: Option<u64>, now: DateTime<Utc>) -> Result<Self> {
        let file = folder.join(WORLD_FILE);
        let shown = file.display();
        match fs::read(&file) {
            Ok(text) => {
                let origin: Self = serde_json::from_slice(&text).map_err(|error| {
                    Error::config(format!(
                        "`{shown}` is damaged ({error}): delete it and its folder"
                    ))
                })?;
                match seed {
                    Some(seed) if seed != origin.seed => Err(Error::config(format!(
                        "`{shown}` belongs to the world of seed {}: use that one, or another \
                         `CONNECTOR_DATA`",
                        origin.seed
                    ))),
                    _ => Ok(origin),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let origin = Self {
                    seed: seed.unwrap_or(SEED),
                    start: now,
                };
                let text = serde_json::to_vec(&origin).unwrap_or_default();
                fs::create_dir_all(folder).and_then(|()| fs::write(&file, text)).map_err(|error| {
                    Error::config(format!(
                        "`{shown}` can't be written ({error}): `CONNECTOR_DATA` names another folder"
                    ))
                })?;
                Ok(origin)
            }
            Err(error) => Err(Error::config(format!("`{shown}` can't be read: {error}"))),
        }
    }
}

pub(super) async fn demo(
    arguments: DemoArguments,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    let stop = stop_on_signal()?;
    let own = Environment::from_process();
    let data = data_folder(&own)?;
    let origin = WorldOrigin::of(&data, None, clock.now())?;
    let simulator = Simulator::new(world(origin), Arc::clone(&clock));
    let authority = tls::Authority::generate(clock.now())?;
    let server = tls::serve(
        simulator.router(),
        (Ipv4Addr::LOCALHOST, 0).into(),
        &authority,
    )
    .await?;

    let environment: Environment = simulator
        .settings(&server.base_url)
        .into_iter()
        .filter(|(name, _)| is_of_a_source(name))
        .chain(DEFENDER.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .chain([
            ("CONNECTOR_DATA".to_owned(), data.display().to_string()),
            ("RUN_BUDGET_SECONDS".to_owned(), BUDGET_SECONDS.to_owned()),
            (
                "LOG_LEVEL".to_owned(),
                own.get("LOG_LEVEL").unwrap_or("error").to_owned(),
            ),
        ])
        .collect();
    let settings = Settings::load(&environment, Mode::Local)?;
    logging::init(settings.log.format, settings.log.level, None)?;
    let network: SharedTransport = Arc::new(Network::loopback(authority.pem().as_bytes())?);
    let app = App::with_transport(&settings, &clock, &network)?;

    screen.say(format!(
        "A simulated company answers on {}: its ESET tenant and its Microsoft Defender. \
         Nothing leaves this machine.",
        server.base_url
    ));
    let reports = once(&app, &Function::TIMERS, true, &stop, screen).await;
    screen.summary(&reports)?;
    screen.say(accounted_for(&reports));
    if stop.is_cancelled() {
        screen.note(Saved::of(&reports));
        return Ok(());
    }
    if let Some(error) = failed(&reports) {
        return Err(error);
    }
    let workspace = Workspace::new(EmbeddedFile::open(&settings.data)?)?;
    screen.say(where_it_lies(&data, riskiest(&workspace).await?.as_ref()));
    if arguments.keep {
        let app = Arc::new(app);
        let (live_app, live_clock) = (Arc::clone(&app), Arc::clone(&clock));
        let live = Live::fixed(live_app, environment, Mode::Local, settings, live_clock);
        let live = Arc::new(live);
        let _page = match show_status(PAGE, &live, &clock, &stop).await {
            Err(_) => show_status(ANY_PORT, &live, &clock, &stop).await?,
            Ok(page) => page,
        };
        keep(&app, &stop, &*clock, screen).await?;
    }
    server.stop().await;
    Ok(())
}

async fn keep(
    app: &App,
    stop: &CancellationToken,
    clock: &dyn Clock,
    screen: Screen,
) -> Result<()> {
    screen.say(format!(
        "\nPulling every {} s what happens in the simulated company. Ctrl-C ends it.",
        PULL_EVERY.as_secs()
    ));
    loop {
        tokio::select! {
            () = clock.sleep(PULL_EVERY) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let reports = once(app, &Function::TIMERS, true, stop, screen).await;
        if stop.is_cancelled() {
            return Ok(());
        }
        if let Some(error) = failed(&reports) {
            return Err(error);
        }
    }
}

/// The world of a folder, as the demo shows it.
fn world(origin: WorldOrigin) -> Options {
    let mut options = Options::new(origin.seed, origin.start);
    options.defender.estate = Estate {
        events: EVENTS,
        ..Estate::default()
    };
    options
}

/// True for the settings of what is read; where rows and state go, the demo decides.
fn is_of_a_source(name: &str) -> bool {
    ["ESET_", "DEFENDER_", "GRAPH_", "AZURE_AUTHORITY_"]
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

/// The counting equation, with its numbers. What most runs have none of is said when there is some.
fn accounted_for(reports: &[Report]) -> String {
    let sum = |count: fn(&Counts) -> u64| -> u64 { reports.iter().map(|r| count(&r.counts)).sum() };
    let some = |count, what: &str| match sum(count) {
        0 => String::new(),
        number => format!(" + {number} {what}"),
    };
    let pulled = sum(|counts| counts.pulled);
    let duplicates = sum(|counts| counts.duplicate);
    [
        format!("{pulled} {} pulled", noun(pulled, "record")),
        some(|counts| counts.gone, "found gone"),
        format!(
            " = {} landed + {duplicates} {} + {} rejected",
            sum(|counts| counts.landed),
            noun(duplicates, "duplicate"),
            sum(|counts| counts.dead)
        ),
        some(|counts| counts.unchanged, "unchanged"),
        some(|counts| counts.filtered, "filtered"),
        some(|counts| counts.waiting, "waiting"),
        some(|counts| counts.again, "to be read again"),
    ]
    .concat()
}

/// A machine to look at.
struct Example {
    id: String,
    name: String,
    address: String,
}

/// The riskiest machine that can be shown.
async fn riskiest(workspace: &Workspace) -> Result<Option<Example>> {
    let sql = "WITH machines AS (
          SELECT deviceUuid, deviceDisplayName, max(TimeGenerated),
            json_extract(additionalFields, '$.lastIpAddress') AS address,
            json_extract(additionalFields, '$.riskScore') AS risk
          FROM IntegrationTable_CL WHERE streamName = 'defender.machines' GROUP BY deviceUuid)
        SELECT deviceUuid, deviceDisplayName, address FROM machines
        WHERE deviceDisplayName IS NOT NULL AND address > ''
        ORDER BY risk = 'High' DESC, risk = 'Medium' DESC, deviceDisplayName LIMIT 1";
    let row = workspace.query(sql).await?.rows.into_iter().next();
    Ok(row.and_then(|row| {
        let mut values = row.into_iter().flatten();
        Some(Example {
            id: values.next()?,
            name: values.next()?,
            address: values.next()?,
        })
    }))
}

/// What to look at next. Nothing is opened by itself, and nothing has to be installed for it.
fn where_it_lies(data: &Path, example: Option<&Example>) -> String {
    let file = data.join(crate::embedded::FILE_NAME);
    let file = file.display();
    let program = screen::program();
    let machine = example.map_or_else(String::new, |Example { id, name, address }| {
        format!(
            r#"

The vulnerabilities of {name}, one of the riskiest machines, and all else about it, by its address:

  {program} query "SELECT typeName AS cve, severityLevel, objectName AS software FROM IntegrationTable_CL WHERE streamName = 'defender.vulnerabilities' AND deviceUuid = '{id}' GROUP BY recordId ORDER BY 2, 1"

  {program} assets find {address}"#
        )
    });
    format!(
        r#"
The rows lie in {file}, which `sqlite3` opens as well. What to look at next:

What ESET detected, and where it is severe:

  {program} query "SELECT severityLevel, category, count(*) AS rows FROM IntegrationTable_CL WHERE providerName = 'ESET' GROUP BY 1, 2 ORDER BY 3 DESC"

  {program} query "SELECT deviceDisplayName, count(*) AS detections, max(eventTime) AS last FROM IntegrationTable_CL WHERE severityLevel = 'SEVERITY_LEVEL_HIGH' AND deviceDisplayName IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 10"

Alerts of Defender by severity:

  {program} query "SELECT severityLevel, count(DISTINCT recordId) AS alerts, max(eventTime) AS last FROM IntegrationTable_CL WHERE streamName = 'defender.alerts' GROUP BY 1 ORDER BY 2 DESC"{machine}

The incidents of both:

  {program} query "SELECT providerName, displayName, status, max(updateTime) AS updated FROM IntegrationTableIncidents_CL GROUP BY providerName, uuid ORDER BY updated DESC LIMIT 20"

Where each stream stands: {program} cursor show
The same company, for settings of your own: {program} simulate (docs/first-steps.md)

Run the demo again later: it goes on from its cursors and adds only what is new."#
    )
}
