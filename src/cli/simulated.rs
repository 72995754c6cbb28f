//! Commands that need the outside world and so the feature `simulator`: `demo`, `simulate`, `bench`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{
    run,
    screen::{self, Screen},
    stop_on_signal,
};
use crate::{
    config::{Environment, Mode, Settings},
    error::Result,
    io::clock::SharedClock,
};

mod bench;
mod demo;
mod simulate;

#[derive(Subcommand)]
pub(super) enum SimulatedCommand {
    /// Pull a simulated company into ./connector-data: no settings, no network, under a minute
    #[command(display_order = 0)]
    Demo(demo::DemoArguments),
    /// Serve the simulated services, and print the settings that point anything at them
    Simulate(simulate::SimulateArguments),
    /// Measure speed and memory against the work that nobody can leave out, on this machine alone
    Bench(bench::BenchArguments),
}

impl SimulatedCommand {
    /// True when this process plays the outside world for a bench.
    pub(super) fn is_the_world(&self) -> bool {
        matches!(self, Self::Bench(arguments) if arguments.is_the_world())
    }

    pub(super) async fn run(self, clock: SharedClock, screen: Screen) -> Result<()> {
        match self {
            Self::Demo(arguments) => demo::demo(arguments, clock, screen).await,
            Self::Simulate(arguments) => simulate::simulate(arguments, clock, screen).await,
            Self::Bench(arguments) => bench::bench(arguments, clock, screen).await,
        }
    }
}

/// The folder of embedded data, by the one setting that the simulated world depends on.
fn data_folder(environment: &Environment) -> Result<PathBuf> {
    const NAME: &str = "CONNECTOR_DATA";
    let only: Environment = environment
        .get(NAME)
        .map(|value| (NAME, value))
        .into_iter()
        .collect();
    Ok(Settings::load(&only, Mode::Local)?.data)
}
