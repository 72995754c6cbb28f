//! `demo`: the real work on embedded defaults, against a simulated company over real HTTPS.

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{data_folder, run::once, screen, stop_on_signal};
use crate::{
    app::{App, FUNCTIONS, failed},
    config::{Environment, Mode, Settings},
    error::{Error, Result},
    io::{
        clock::{Clock, SharedClock},
        http::{Network, SharedTransport},
    },
    logging,
    pipeline::{Counts, Report},
    simulator::{Options, Simulator, tls},
};

/// What the simulated world is a function of, beside the time.
const WORLD_FILE: &str = "world.json";

/// The seed of a new world.
const SEED: u64 = 2026;

/// The demo ends by itself: what does not fit is left to the next one.
const BUDGET_SECONDS: &str = "50";

/// How often `--keep` pulls.
const PULL_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Stay on and keep pulling as time goes by, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// The world that belongs to a folder of data: with it, a later start goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) seed: u64,
    pub(super) start: DateTime<Utc>,
}

impl Origin {
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

pub(super) async fn demo(arguments: Arguments, clock: SharedClock) -> Result<()> {
    let stop = stop_on_signal()?;
    let own = Environment::from_process();
    let data = data_folder(&own)?;
    let origin = Origin::of(&data, None, clock.now())?;
    let simulator = Simulator::new(Options::new(origin.seed, origin.start), Arc::clone(&clock));
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
        .filter(|(name, _)| name.starts_with("ESET_"))
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
    logging::init(settings.log.format, settings.log.level)?;
    let network: SharedTransport = Arc::new(Network::loopback(authority.pem().as_bytes())?);
    let app = App::with_transport(&settings, &clock, &network)?;

    screen::line(format!(
        "A simulated ESET tenant answers on {}; nothing leaves this machine.",
        server.base_url
    ));
    let reports = once(&app, FUNCTIONS, true, &stop).await;
    screen::line(screen::summary(&reports));
    screen::line(accounted_for(&reports));
    if let Some(error) = failed(&reports) {
        return Err(error);
    }
    screen::line(where_it_lies(&data));
    if arguments.keep {
        keep(&app, &stop, &*clock).await?;
    }
    server.stop().await;
    Ok(())
}

async fn keep(app: &App, stop: &CancellationToken, clock: &dyn Clock) -> Result<()> {
    screen::line(format!(
        "\nPulling every {} s what happens in the simulated company. Ctrl-C ends it.",
        PULL_EVERY.as_secs()
    ));
    loop {
        tokio::select! {
            () = clock.sleep(PULL_EVERY) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let reports = once(app, FUNCTIONS, true, stop).await;
        if stop.is_cancelled() {
            return Ok(());
        }
        if let Some(error) = failed(&reports) {
            return Err(error);
        }
    }
}

/// The counting equation, with its numbers.
fn accounted_for(reports: &[Report]) -> String {
    let mut all = Counts::default();
    for Report { counts, .. } in reports {
        all.pulled += counts.pulled;
        all.landed += counts.landed;
        all.duplicate += counts.duplicate;
        all.dead += counts.dead;
        all.again += counts.again;
    }
    let again = match all.again {
        0 => String::new(),
        again => format!(" + {again} to be read again"),
    };
    format!(
        "{} records pulled = {} landed + {} duplicates + {} rejected{again}",
        all.pulled, all.landed, all.duplicate, all.dead
    )
}

fn where_it_lies(data: &Path) -> String {
    let file = data.join(crate::embedded::FILE_NAME);
    let file = file.display();
    format!(
        r#"
The rows lie in {file}. Ask them with `sqlite3`, or with `sentinel-connector query "…"`:

  sqlite3 {file} "SELECT severityLevel, category, count(*) AS rows FROM IntegrationTable_CL WHERE providerName = 'ESET' GROUP BY 1, 2 ORDER BY 3 DESC"

  sqlite3 {file} "SELECT deviceDisplayName, count(*) AS detections, max(eventTime) AS last FROM IntegrationTable_CL WHERE severityLevel = 'SEVERITY_LEVEL_HIGH' AND deviceDisplayName IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 10"

  sqlite3 {file} "SELECT displayName, status, max(updateTime) AS updated, json_array_length(detectionUuids) AS detections FROM IntegrationTableIncidents_CL GROUP BY uuid ORDER BY updated DESC LIMIT 10"

Run the demo again later: it goes on from its cursors and adds only what is new."#
    )
}
