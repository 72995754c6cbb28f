//! `bench`: how fast, in how much memory, held against the work that nobody can leave out.
//!
//! Every part is a process of its own, so that its CPU seconds and its memory are its alone, and
//! each measured part has a simulator of its own, which is not counted:
//!
//! ```text
//! bench ─┬─ simulator ◄── HTTPS ── fill       the same pipeline a day before (--of machines)
//!        ├─ simulator ◄── HTTPS ── pull       the pipeline, into the Logs Ingestion API
//!        ├─ simulator ◄── HTTPS ── reference  read, cut into rows, gzip level 1, write
//!        ├─ simulator ◄── HTTPS ── fetch      the pages alone, one after the other (--latency)
//!        └─ serve                             started some times, asked once, left idle
//! ```
//!
//! Machines are read twice: as of the day before, which is not counted, and again when nothing has
//! changed but the time of their last report.
//!
//! Many tenants (`--of tenants`) are run once side by side and once one by one, for a tenth of them.
//!
//! State is kept in the embedded file: a real store, on a real disk, that needs no further server
//! whose cost would have to be told apart.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    data_folder,
    screen::{self, Screen},
};
use crate::{
    config::Environment,
    error::{Error, Result},
    io::clock::SharedClock,
};

mod child;
mod of;
mod pull;
mod reference;
mod start;
mod table;
mod tenants;
mod usage;
mod world;

use child::Child;
use of::Of;
use table::Round;
use usage::Usage;
use world::{World, WorldTally};

#[derive(clap::Args)]
pub(in crate::cli) struct BenchArguments {
    /// What to pull
    #[arg(long, value_enum, default_value_t = Of::Detections)]
    of: Of,
    /// How many records to pull; 100,000 unless it is said, and 2,000,000 of an export
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// How many milliseconds each call takes longer; none unless it is said, and 50 of tenants
    #[arg(long, value_name = "MS")]
    latency: Option<u64>,
    /// With --of tenants: how many there are
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    tenants: u64,
    /// With --of tenants: how many streams each of them has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    streams: u32,
    /// How often all is measured: the medians of CPU and time count, and the most memory
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What is looked up about detections, as `ESET_ENRICH` has it
    #[arg(long, value_enum, default_value_t = Lookups::All)]
    enrich: Lookups,
    /// Play a tenant whose list of v2 detections carries those of v1, with their details
    #[arg(long)]
    v2_list: bool,
    /// Keep to the calls a second that ESET allows, which nothing keeps to otherwise
    #[arg(long)]
    limited: bool,
    /// Do only the work that nobody can leave out
    #[arg(long)]
    reference: bool,
    /// What this process does for another one
    #[arg(long, hide = true)]
    part: Option<BenchProcess>,
}

impl BenchArguments {
    fn rows(&self) -> u64 {
        self.rows.unwrap_or_else(|| self.of.rows())
    }

    fn latency(&self) -> u64 {
        let own = if self.of == Of::Tenants { 50 } else { 0 };
        self.latency.unwrap_or(own)
    }

    /// Flags that each process has to know.
    fn passed_on(&self) -> Vec<String> {
        let flags = [("--v2-list", self.v2_list), ("--limited", self.limited)];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
        flags.map(|(flag, _)| flag.to_owned()).collect()
    }

    /// True when this process plays the outside world.
    pub(super) fn is_the_world(&self) -> bool {
        self.part == Some(BenchProcess::World)
    }
}

/// Look-ups about detections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Lookups {
    /// Details and names of devices: the default of the product
    All,
    /// None
    None,
}

impl Lookups {
    /// The value of `ESET_ENRICH`.
    fn setting(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// A process of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BenchProcess {
    /// The outside world.
    World,
    /// The pipeline, a day before it is measured.
    Fill,
    /// The pipeline.
    Pull,
    /// The unavoidable work.
    Reference,
    /// The pages alone.
    Fetch,
    /// One run of many tenants.
    Tenants,
}

impl BenchProcess {
    fn name(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Fill => "fill",
            Self::Pull => "pull",
            Self::Reference => "reference",
            Self::Fetch => "fetch",
            Self::Tenants => "tenants",
        }
    }
}

/// What a part says about its work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Done {
    /// Records that were read.
    records: u64,
    /// Their bytes.
    bytes: u64,
    /// Seconds from the first call to the last answer.
    seconds: f64,
    usage: Usage,
}

/// A part, and what the simulator saw of it.
#[derive(Debug, Clone, Copy)]
struct Measured {
    done: Done,
    tally: WorldTally,
}

pub(super) async fn bench(
    arguments: BenchArguments,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    let of = arguments.of;
    let done = match arguments.part {
        None if of == Of::Tenants => return tenants::compare(&arguments, screen),
        None => return all(&arguments, &clock, screen).await,
        Some(BenchProcess::Tenants) => return tenants::run(&arguments, clock).await,
        Some(BenchProcess::World) => return world::serve(&arguments, clock).await,
        Some(BenchProcess::Fill) => pull::fill(of, child::settings()?, clock).await?,
        Some(BenchProcess::Pull) => {
            pull::pull(of, arguments.limited, child::settings()?, clock).await?
        }
        Some(BenchProcess::Reference) => reference::work(of, child::settings()?, &*clock).await?,
        Some(BenchProcess::Fetch) => reference::fetch(of, child::settings()?, &*clock).await?,
    };
    child::report(&done)
}

async fn all(arguments: &BenchArguments, clock: &SharedClock, screen: Screen) -> Result<()> {
    // First, where it can't be measured: before anything is started.
    Usage::of_this_process()?;
    let folder = Folder::new()?;
    let wait = screen.wait("measuring");
    let rounds = (1..=arguments.rounds)
        .map(|number| {
            wait.says(&format!(
                "measuring, round {number} of {}",
                arguments.rounds
            ));
            round(arguments, &folder.0.join(number.to_string()))
        })
        .collect::<Result<_>>()?;
    drop(wait);
    let mut figures = table::Figures::new(arguments, rounds);
    if !arguments.reference {
        figures.start = Some(start::measure(&folder.0, clock).await?);
    }
    if !screen.data_of(&figures.data(), &table::PARTS, &figures.data().parts)? {
        screen::line(figures.shown());
    }
    figures
        .missing()
        .map_or(Ok(()), |missing| Err(Error::contract(missing)))
}

/// Measures each part once.
fn round(arguments: &BenchArguments, folder: &Path) -> Result<Round> {
    let measure = |part| measure(part, arguments, folder);
    let mut round = Round {
        reference: measure(BenchProcess::Reference)?,
        pull: None,
        fetch: None,
    };
    if !arguments.reference {
        if arguments.of == Of::Machines {
            measure(BenchProcess::Fill)?;
        }
        round.pull = Some(measure(BenchProcess::Pull)?);
        if arguments.latency() > 0 {
            round.fetch = Some(measure(BenchProcess::Fetch)?);
        }
    }
    Ok(round)
}

fn measure(part: BenchProcess, arguments: &BenchArguments, folder: &Path) -> Result<Measured> {
    let of = arguments.of;
    // The pipeline remembers from day to day.
    let data = folder.join(match part {
        BenchProcess::Fill => BenchProcess::Pull.name(),
        part => part.name(),
    });
    let mut world = World::start(arguments, &data)?;
    let mut child = Child::start(part, of, &arguments.passed_on())?;
    child.tell(world.settings())?;
    let done = child.hear()?;
    child.end()?;
    let tally = world.end()?;
    Ok(Measured { done, tally })
}

/// A folder that goes away with the bench.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let folder = data_folder(&Environment::from_process())?.join(name);
        fs::create_dir_all(&folder).map_err(|error| {
            Error::config(format!("`{}` can't be made: {error}", folder.display()))
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Milliseconds of a duration, with their fraction.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
