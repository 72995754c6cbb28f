//! `simulate`: the outside world on an address of this machine.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc};

use clap::ValueEnum;
use serde::Serialize;

use super::{
    data_folder,
    demo::{EVENTS, WorldOrigin},
    screen::{self, Screen, SheetColumn},
    stop_on_signal,
};
use crate::{
    config::Environment,
    core::count::counted,
    error::{Error, Result},
    io::clock::{Clock, SharedClock},
    simulator::{
        Fault, IncidentUuids, Options, Simulator, SizeLimit, V2Carries, tls,
        world::{Finest, defender::Estate},
    },
};

/// The authority with its key: with it, a certificate of the simulator stays trusted.
const AUTHORITY_FILE: &str = "simulator-authority.pem";

/// The authority's certificate, for `EXTRA_CA_FILE`.
const CERTIFICATE_FILE: &str = "simulator-ca.pem";

#[derive(clap::Args)]
pub(in crate::cli) struct SimulateArguments {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443", value_parser = loopback)]
    listen: SocketAddr,
    /// Another world (kept with the data; the default is the demo's)
    #[arg(long)]
    seed: Option<u64>,
    /// How busy the company is, as a multiple of the demo's
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Play a fault: target:kind[=value][xN][@K], N times from the K-th call on
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// List every fault that can be played, and end
    #[arg(long)]
    list_faults: bool,
    /// What the v2 feeds of detections carry: the contracts disagree
    #[arg(long, value_enum, default_value_t = V2::CloudOffice)]
    v2_carries: V2,
    /// What the size limit of the Logs Ingestion API is measured on: the sources disagree. Microsoft's
    /// own clients send more than it once inflated
    #[arg(long, value_enum, default_value_t = Limit::Sent)]
    size_limit: Limit,
    /// How many digits behind the second ESET's times have at most
    #[arg(long, value_enum, default_value_t = Digits::Six)]
    time_digits: Digits,
    /// What the list of ESET incidents says of detectionUuids and deviceUuids: the documentation has it
    /// leave them out, and its schema has both
    #[arg(long, value_enum, default_value_t = Uuids::Empty)]
    incident_uuids: Uuids,
    /// How many machines Microsoft Defender sees
    #[arg(long, value_name = "N", default_value_t = Estate::default().machines)]
    machines: u64,
    /// How many pieces of vulnerable software it finds on each
    #[arg(long, value_name = "N", default_value_t = Estate::default().findings)]
    findings: u64,
    /// How many events a day each table of advanced hunting gets, before --scale
    #[arg(long, value_name = "N", default_value_t = EVENTS)]
    events: f64,
    /// A table of advanced hunting that is not deployed; may be repeated
    #[arg(long = "missing-table", value_name = "TABLE")]
    missing_tables: Vec<String>,
    /// The application roles that Defender's app has, in place of all that reading takes
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum V2 {
    /// Cloud Office Security only
    CloudOffice,
    /// PROTECT and Inspect as well
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Limit {
    /// The body as it is sent
    Sent,
    /// The body once it is inflated
    Inflated,
    /// Either
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum Digits {
    /// Microseconds
    #[value(name = "6")]
    Six,
    /// Nanoseconds
    #[value(name = "9")]
    Nine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Uuids {
    /// Nothing
    Absent,
    /// That there are none
    Empty,
    /// All of them
    Listed,
}

/// Fault that can be played, in a list.
#[derive(Serialize)]
struct PlayableFault {
    fault: String,
    plays: String,
}

/// Of a fault, in a list.
const FAULTS: [SheetColumn<PlayableFault>; 2] =
    [SheetColumn::data("fault"), SheetColumn::data("plays")];

/// Setting that points at the simulator, in a list.
#[derive(Serialize)]
struct GivenSetting {
    setting: String,
    value: String,
}

/// Of a setting, in a list.
const SETTINGS: [SheetColumn<GivenSetting>; 2] =
    [SheetColumn::data("setting"), SheetColumn::data("value")];

fn list_faults(screen: Screen) -> Result<()> {
    let all = Fault::catalogue().into_iter().map(|entry| PlayableFault {
        fault: format!("{}:{}", entry.target.name(), entry.kind),
        plays: entry.plays.to_string(),
    });
    let all: Vec<PlayableFault> = all.collect();
    if !screen.data(&FAULTS, &all)? {
        for PlayableFault { fault, plays } in &all {
            screen::item(&format!("{fault:<46}"), plays);
        }
    }
    Ok(())
}

pub(super) async fn simulate(
    arguments: SimulateArguments,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    if arguments.list_faults {
        return list_faults(screen);
    }
    let data = data_folder(&Environment::from_process())?;
    let origin = WorldOrigin::of(&data, arguments.seed, clock.now())?;
    let mut options = Options::new(origin.seed, origin.start);
    options.scale = arguments.scale;
    options.v2_carries = match arguments.v2_carries {
        V2::CloudOffice => V2Carries::OnlyCloudOffice,
        V2::All => V2Carries::AlsoInspect,
    };
    options.size_limit = match arguments.size_limit {
        Limit::Sent => SizeLimit::AsSent,
        Limit::Inflated => SizeLimit::Uncompressed,
        Limit::Both => SizeLimit::Both,
    };
    options.finest_time = match arguments.time_digits {
        Digits::Six => Finest::Micros,
        Digits::Nine => Finest::Nanos,
    };
    options.incident_uuids = match arguments.incident_uuids {
        Uuids::Absent => IncidentUuids::Absent,
        Uuids::Empty => IncidentUuids::Empty,
        Uuids::Listed => IncidentUuids::Listed,
    };
    let defender = &mut options.defender;
    defender.estate = Estate {
        machines: arguments.machines,
        findings: arguments.findings,
        events: arguments.events,
        ..Estate::default()
    };
    defender.missing_tables = arguments.missing_tables.into_iter().collect();
    if !arguments.roles.is_empty() {
        defender.roles = arguments.roles.into_iter().collect();
    }
    // It may stay on for days.
    options.keep_rows = false;
    let simulator = Simulator::new(options, Arc::clone(&clock));
    for fault in arguments.faults {
        simulator.inject(fault);
    }

    let authority = authority(&data, &*clock)?;
    let certificate = data.join(CERTIFICATE_FILE);
    write(&certificate, authority.pem())?;
    let server = tls::serve(simulator.router(), arguments.listen, &authority).await?;
    // Whoever reads them line by line has them all with the last one.
    let certificate = certificate.display().to_string();
    let settings = simulator.settings(&server.base_url).into_iter();
    let settings = settings.chain([("EXTRA_CA_FILE".to_owned(), certificate)]);
    let listed: Vec<GivenSetting> = settings
        .map(|(setting, value)| GivenSetting { setting, value })
        .collect();
    let settings: BTreeMap<&str, &str> = listed
        .iter()
        .map(|one| (one.setting.as_str(), one.value.as_str()))
        .collect();
    if !screen.data_of(&settings, &SETTINGS, &listed)? {
        for GivenSetting { setting, value } in &listed {
            screen::line(format!("{setting}={value}"));
        }
    }
    screen::complain(&format!(
        "serving the simulated services on {}; Ctrl-C ends it",
        server.base_url
    ));
    // The connector knows where names below `localhost` are; most resolvers don't.
    screen::complain(&format!(
        "other clients find the vault at https://{}",
        server.address
    ));
    stop_on_signal()?.cancelled().await;
    for (stream, received) in simulator.received() {
        screen.say(format!(
            "{stream}: {} in {}, {}",
            counted(received.count, "row"),
            counted(received.calls, "call"),
            counted(received.bytes, "byte")
        ));
    }
    server.stop().await;
    Ok(())
}

fn authority(data: &Path, clock: &dyn Clock) -> Result<tls::Authority> {
    let file = data.join(AUTHORITY_FILE);
    if let Ok(pem) = fs::read_to_string(&file) {
        return tls::Authority::from_pem(&pem, clock.now())
            .map_err(|error| error.context(format!("`{}`: delete it", file.display())));
    }
    let authority = tls::Authority::generate(clock.now())?;
    write(&file, &authority.to_pem())?;
    Ok(authority)
}

/// An address to listen on, which must be this machine.
fn loopback(text: &str) -> std::result::Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:7443".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("the simulator listens on this machine only, such as on 127.0.0.1".to_owned());
    }
    Ok(address)
}

/// Writes a file that only its owner may read.
fn write(file: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| Error::config(format!("`{}` can't be written: {error}", file.display())))
}
