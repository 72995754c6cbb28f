//! The simulator as a process, and what it has seen.

use std::{
    fs,
    io::{self, Read},
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    BenchArguments, BenchProcess, Of,
    child::{self, Child, Named},
};
use crate::{
    error::{Error, Result},
    io::clock::SharedClock,
    simulator::{
        DefenderOptions, Options, Simulator, Target, V2Carries, tls, world::defender::Estate,
    },
};

/// How many machines records are taken from, to be repeated on others.
const MACHINES: u64 = 1_000;

/// How large the company of each tenant is: some ten detections a day.
const FEW: f64 = 0.02;

/// What the simulator has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorldTally {
    /// Calls of any kind.
    pub(super) calls: u64,
    /// Pages of records, and other questions to the source.
    pub(super) pages: u64,
    /// Calls that brought rows.
    pub(super) pushes: u64,
    /// Rows that were brought.
    pub(super) rows: u64,
    /// Their bytes of JSON.
    pub(super) bytes: u64,
    /// Their bytes as they were sent.
    pub(super) sent: u64,
    /// Different records among the rows.
    pub(super) arrived: u64,
}

/// What the simulator says first.
#[derive(Serialize, Deserialize)]
struct Hello {
    settings: Named,
    authority: String,
}

/// A running simulator.
pub(super) struct World {
    child: Child,
    settings: Named,
}

impl World {
    /// Starts one, for a program that keeps its data in `data`.
    pub(super) fn start(asked: &BenchArguments, data: &Path) -> Result<Self> {
        let of = asked.of;
        let mut arguments = vec![
            "--latency".to_owned(),
            asked.latency().to_string(),
            "--tenants".to_owned(),
            asked.tenants.to_string(),
        ];
        if of.bulk().is_some() {
            arguments.extend(["--rows".to_owned(), asked.rows().to_string()]);
        }
        arguments.extend(asked.passed_on());
        let mut child = Child::start(BenchProcess::World, of, &arguments)?;
        let Hello {
            mut settings,
            authority,
        } = child.hear()?;
        let file = data.join("authority.pem");
        fs::create_dir_all(data)
            .and_then(|()| fs::write(&file, authority))
            .map_err(|error| {
                Error::config(format!("`{}` can't be written: {error}", file.display()))
            })?;
        let enrich =
            (of == Of::Detections).then(|| ("ESET_ENRICH", asked.enrich.setting().to_owned()));
        let own = [
            ("CONNECTOR_DATA", data.display().to_string()),
            ("EXTRA_CA_FILE", file.display().to_string()),
            ("SINK", "logs-ingestion".to_owned()),
            ("STORAGE", "embedded".to_owned()),
        ];
        settings.retain(|name, _| !of.leaves_out(name));
        let settings_of = of.settings().iter();
        let settings_of = settings_of.map(|(name, value)| (*name, (*value).to_owned()));
        settings.extend(
            own.into_iter()
                .chain(enrich)
                .chain(settings_of)
                .map(|(name, value)| (name.to_owned(), value)),
        );
        Ok(Self { child, settings })
    }

    /// What points a program here.
    pub(super) fn settings(&self) -> &Named {
        &self.settings
    }

    /// Ends it, and gives back what it has seen.
    pub(super) fn end(&mut self) -> Result<WorldTally> {
        self.child.tell(&())?;
        self.child.hear()
    }
}

/// Serves until nothing more comes on stdin, and says what it has seen.
pub(super) async fn serve(asked: &BenchArguments, clock: SharedClock) -> Result<()> {
    let of = asked.of;
    let estate = Estate {
        machines: MACHINES,
        ..Estate::default()
    };
    let options = Options {
        defender: DefenderOptions {
            quotas: false,
            estate,
            ..DefenderOptions::default()
        },
        calls_per_second: None,
        keep_rows: false,
        latency: Duration::from_millis(asked.latency()),
        bulk: of.bulk().map(|bulk| (bulk, asked.rows())),
        accounts: asked.tenants,
        scale: if of == Of::Tenants { FEW } else { 1.0 },
        v2_carries: if asked.v2_list {
            V2Carries::AlsoInspect
        } else {
            V2Carries::OnlyCloudOffice
        },
        ..Options::new(1, clock.now())
    };
    let authority = tls::Authority::generate(clock.now())?;
    let simulator = Simulator::new(options, clock);
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = tls::serve(simulator.router(), address, &authority).await?;
    child::report(&Hello {
        settings: simulator.settings(&server.base_url).into_iter().collect(),
        authority: authority.pem().to_owned(),
    })?;
    let end = tokio::task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
    // However it ends, nobody asks any more.
    drop(end.await);
    let received = simulator.received();
    let mut tally = WorldTally {
        calls: 0,
        pages: 0,
        pushes: 0,
        rows: received.values().map(|stream| stream.count).sum(),
        bytes: received.values().map(|stream| stream.bytes).sum(),
        sent: received.values().map(|stream| stream.sent_bytes).sum(),
        arrived: simulator.arrived(),
    };
    for call in simulator.calls() {
        tally.calls += 1;
        tally.pages += u64::from(call.target.is_some_and(|target| of.is_asked_by(target)));
        tally.pushes += u64::from(call.target == Some(Target::Ingestion));
    }
    server.stop().await;
    child::report(&tally)
}
