//! The command line.

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc, time::Duration};

#[cfg(feature = "cli")]
use clap::CommandFactory as _;
use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tokio_util::sync::CancellationToken;

use screen::Screen;

use crate::{
    app::{self, list::with_list},
    config::{Environment, ListPlace, LogSettings, Mode, Settings, TelemetrySettings},
    error::{Error, Result},
    host,
    io::clock::{SharedClock, SystemClock},
    logging,
    serve::Served,
    telemetry::{SpanLayer, Telemetry},
};

mod assets;
mod check;
mod columns;
mod connections;
mod cursor;
#[cfg(feature = "cli")]
mod init;
mod outbox;
mod routes;
mod run;
mod schema;
mod screen;
#[cfg(feature = "cli")]
mod shell;
#[cfg(feature = "simulator")]
mod simulated;

/// Where `run`, `check`, `cursor` and `query` find settings that the environment does not have.
const LOCAL_SETTINGS: &str = "local.settings.json";

/// How long a command waits at its end for the last traces and metrics to be taken.
const LAST_SENT: Duration = Duration::from_secs(5);

/// Threads for what keeps a processor or a disk busy. Async work has one of its own, which is never
/// busy for long; each further thread would cost memory of its own.
const WORKERS: usize = 2;

const EXAMPLES: &str = "\
Examples:
  sentinel-connector demo                       try everything, no settings
  sentinel-connector query \"SELECT count(*) FROM IntegrationTable_CL\"
  sentinel-connector init                       ask for settings, and try them
  sentinel-connector check                      each setting and dependency
  sentinel-connector check --estimate           how much a day brings
  sentinel-connector connections list           and which of them are wrong
  sentinel-connector run EsetTimer --once       one run with real settings
  sentinel-connector run --watch                on and on, as the timers would
  sentinel-connector cursor show                where each stream stands
  sentinel-connector cursor show --output json  for a script: schemas/cli
  sentinel-connector cursor set eset.detections 2026-11-20T00:00:00Z
  sentinel-connector metrics                    numbers for Prometheus
  sentinel-connector assets find 10.1.2.3       which machine, and how it is
  sentinel-connector cursor import --dry-run    after the stock ESET connector
  sentinel-connector simulate --fault eset.detections:429x3 --machines 5000

Settings come from the environment, then from `Values` in ./local.settings.json.";

/// Commands that only a build of the source has; the deployed package, without the features `cli` and
/// `simulator`, is none.
const NOT_IN_THE_PACKAGE: [(&str, bool); 6] = [
    ("demo", cfg!(feature = "simulator")),
    ("simulate", cfg!(feature = "simulator")),
    ("bench", cfg!(feature = "simulator")),
    ("init", cfg!(feature = "cli")),
    ("completions", cfg!(feature = "cli")),
    ("man", cfg!(feature = "cli")),
];

/// True for a command that exists, and not here.
fn is_elsewhere(name: &str) -> bool {
    NOT_IN_THE_PACKAGE.contains(&(name, false))
}

/// The examples of commands that are in this build.
fn examples() -> String {
    let elsewhere = |line: &str| {
        let command = line.split_whitespace().nth(1);
        command.is_some_and(is_elsewhere)
    };
    let lines: Vec<_> = EXAMPLES.lines().filter(|line| !elsewhere(line)).collect();
    lines.join("\n")
}

#[derive(Parser)]
#[command(name = "sentinel-connector", version, about, after_help = examples())]
struct Arguments {
    #[command(flatten)]
    screen: Screen,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the Azure Functions host, which starts this itself
    Serve,
    /// Run functions with real settings, without the Functions host
    Run(run::RunArguments),
    /// Try each setting and each dependency, and say how to mend what is wrong
    Check(check::CheckArguments),
    /// Show, check or change the list of connections
    #[command(subcommand)]
    Connections(connections::ConnectionsCommand),
    /// Show or move the position of a stream
    #[command(subcommand)]
    Cursor(cursor::CursorCommand),
    /// Show, push or drop what waits for the sink
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Show, retry or drop what was refused
    #[command(subcommand)]
    Dead(outbox::DeadCommand),
    /// Say which machine is behind an address, a name or an id
    #[command(subcommand)]
    Assets(assets::AssetsCommand),
    /// Print what has to be there for streams with a table of their own
    #[command(subcommand)]
    Routes(routes::RoutesCommand),
    /// Print the numbers that runs have left, in Prometheus' text form
    Metrics,
    /// Print which member of each stream goes to which column
    Columns,
    /// Ask the embedded tables in SQL
    Query {
        /// One SELECT
        sql: String,
    },
    /// Print the tables and their columns, to compare with those of a workspace or to bring them up to these
    Schema(schema::SchemaArguments),
    /// Ask for the settings of a first connection, try them, and write local.settings.json
    #[cfg(feature = "cli")]
    #[command(display_order = 0)]
    Init(init::InitArguments),
    /// Print what a shell needs to complete commands and options
    #[cfg(feature = "cli")]
    Completions(shell::CompletionsArguments),
    /// Print the man page
    #[cfg(feature = "cli")]
    Man(shell::ManArguments),
    #[cfg(feature = "simulator")]
    #[command(flatten)]
    Simulated(simulated::SimulatedCommand),
}

/// Runs the program with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return wrong_use(&error),
    };
    let runtime = runtime(&arguments.command)
        .build()
        .map_err(|error| Error::transient(format!("no threads to be had: {error}")));
    let end =
        runtime.and_then(|runtime| runtime.block_on(run(arguments.command, arguments.screen)));
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn runtime(command: &Command) -> tokio::runtime::Builder {
    let mut runtime = match command {
        // Nobody counts what it costs, but it has to be quicker than who is measured.
        #[cfg(feature = "simulator")]
        Command::Simulated(command) if command.is_the_world() => {
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.max_blocking_threads(WORKERS).enable_all();
    runtime
}

/// Help goes to stdout; a mistake is one line, and exit code 2.
fn wrong_use(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        screen::line(error.render().ansi().to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
        && is_elsewhere(name)
    {
        screen::misuse(&format!(
            "`{name}` is not in this build; a build of the source has it: `cargo run --release -- {name}`"
        ));
        return ExitCode::from(2);
    }
    let text = error.render().to_string();
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing",
        _ => text.lines().next().unwrap_or("wrong use"),
    };
    let what = what.trim_start_matches("error: ").trim_end_matches(':');
    let meant = meant(error).map(|near| format!("; did you mean `{near}`?"));
    screen::misuse(&format!(
        "{what}{} (`sentinel-connector --help` shows how)",
        meant.unwrap_or_default()
    ));
    ExitCode::from(2)
}

/// The name that was probably meant.
fn meant(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.clone()),
        ContextValue::Strings(names) => names.last().cloned(),
        _ => None,
    })
}

async fn run(command: Command, screen: Screen) -> Result<()> {
    let clock: SharedClock = Arc::new(SystemClock);
    let settings = || local_settings(&clock, screen);
    match command {
        Command::Serve => serve(clock).await,
        Command::Run(arguments) => {
            let settings = read_settings(&clock).await?;
            let (telemetry, spans) = start_telemetry(
                settings.telemetry.as_ref(),
                settings.extra_ca.as_deref(),
                &clock,
            )?;
            let settings = log_settings(settings, spans, screen)?;
            let told = Arc::clone(&clock);
            let ran = run::run(arguments, local_environment()?, settings, clock, screen).await;
            end_telemetry(telemetry, LAST_SENT, &told).await;
            ran
        }
        Command::Check(arguments) => {
            check::check(arguments, local_environment()?, clock, screen).await
        }
        Command::Connections(command) => {
            connections::connections(command, local_environment()?, clock, screen).await
        }
        Command::Cursor(command) => {
            let settings = settings().await?;
            cursor::cursor(command, &local_environment()?, &settings, clock, screen).await
        }
        Command::Outbox(command) => {
            let settings = settings().await?;
            outbox::outbox(command, &settings, clock, screen).await
        }
        Command::Dead(command) => {
            let settings = settings().await?;
            outbox::dead(command, &settings, clock, screen).await
        }
        Command::Assets(command) => {
            let settings = settings().await?;
            assets::assets(command, &settings, clock, &stop_on_signal()?, screen).await
        }
        Command::Routes(command) => routes::routes(&command, settings().await?, screen),
        Command::Metrics => run::metrics(&settings().await?, &clock, screen).await,
        Command::Columns => columns::columns(screen),
        Command::Query { sql } => run::query(&sql, &settings().await?, screen).await,
        Command::Schema(arguments) => schema::schema(&arguments, screen),
        #[cfg(feature = "cli")]
        Command::Init(arguments) => {
            init::init(arguments, Environment::from_process(), clock, screen).await
        }
        #[cfg(feature = "cli")]
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        #[cfg(feature = "cli")]
        Command::Man(arguments) => shell::man(&arguments, Arguments::command()),
        #[cfg(feature = "simulator")]
        Command::Simulated(command) => Box::pin(command.run(clock, screen)).await,
    }
}

/// The port is open before the settings are read: the host waits for nothing but the port. Wrong
/// settings are the answer to each call; to end here would have the host start us over and over.
async fn serve(clock: SharedClock) -> Result<()> {
    let environment = Environment::from_process();
    let log = LogSettings::load(&environment, Mode::Host);
    // What is wrong with it is among the warnings of the settings.
    let telemetry = TelemetrySettings::load(&environment).ok().flatten();
    let extra_ca = environment.get("EXTRA_CA_FILE").map(Path::new);
    let started = start_telemetry(telemetry.as_ref(), extra_ca, &clock);
    let ((telemetry, spans), wrong) = match started {
        Ok(started) => (started, None),
        Err(error) => ((None, None), Some(error)),
    };
    logging::init(log.format, log.level, spans)?;
    if let Some(error) = wrong {
        tracing::error!(kind = %error.kind(), "no traces and metrics are sent: {error}");
    }
    let listener = host::bind(environment.host_port()?).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    // A list of connections elsewhere is read at each call.
    let settings = match ListPlace::of(&environment) {
        Ok(Some(_)) => {
            let flat = environment.without_connections();
            Settings::load(&flat, Mode::Host)
        }
        _ => Settings::load(&environment, Mode::Host),
    };
    let strange = match &settings {
        Ok(settings) => &settings.warnings,
        Err(problems) => &problems.warnings,
    };
    for problem in settings.iter().flat_map(Settings::problems) {
        tracing::error!(setting = problem.setting, "{problem}");
    }
    for note in strange {
        tracing::info!(setting = note.setting, "{note}");
    }
    let served = Served::new(environment, settings, Arc::clone(&clock));
    let told = Arc::clone(&clock);
    let left = host::serve_until_terminated(listener, Arc::new(served), clock).await?;
    end_telemetry(telemetry, left, &told).await;
    Ok(())
}

fn local_environment() -> Result<Environment> {
    let environment = Environment::from_process();
    let file = Path::new(LOCAL_SETTINGS);
    if file.exists() {
        environment.with_local_settings(file)
    } else {
        Ok(environment)
    }
}

/// Begins to send traces and metrics, if there is somewhere to send them to.
fn start_telemetry(
    settings: Option<&TelemetrySettings>,
    extra_ca: Option<&Path>,
    clock: &SharedClock,
) -> Result<(Option<Telemetry>, Option<SpanLayer>)> {
    let Some(settings) = settings else {
        return Ok((None, None));
    };
    let network = app::network_trusting(extra_ca)?;
    let (telemetry, spans) = Telemetry::start(settings, network, clock)?;
    Ok((Some(telemetry), spans))
}

async fn end_telemetry(telemetry: Option<Telemetry>, patience: Duration, clock: &SharedClock) {
    if let Some(telemetry) = telemetry {
        telemetry.end(patience, clock).await;
    }
}

/// Settings for a command line, with what is strange about them said.
async fn local_settings(clock: &SharedClock, screen: Screen) -> Result<Settings> {
    log_settings(read_settings(clock).await?, None, screen)
}

async fn read_settings(clock: &SharedClock) -> Result<Settings> {
    let environment = with_list(local_environment()?, Mode::Local, clock).await;
    Ok(Settings::load(&environment, Mode::Local)?)
}

/// Begins to log by these settings, and says what is strange about them.
fn log_settings(settings: Settings, spans: Option<SpanLayer>, screen: Screen) -> Result<Settings> {
    logging::init(settings.log.format, settings.log.level, spans)?;
    for problem in settings.problems() {
        screen::complain(&format!("its connection is left out: {problem}"));
    }
    for warning in &settings.warnings {
        screen.note(warning);
    }
    Ok(settings)
}

/// Is cancelled when somebody ends the program with Ctrl-C or SIGTERM.
fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let signal = host::terminated()?;
    let on_signal = stop.clone();
    tokio::spawn(async move {
        signal.await;
        on_signal.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_words_of_the_commands_hold_together() {
        Arguments::command().debug_assert();
        // Two arguments of one name in one command: what is read of one is taken for the other.
        let command = Arguments::command();
        let own: Vec<_> = command.get_arguments().map(clap::Arg::get_id).collect();
        let mut inner: Vec<&clap::Command> = command.get_subcommands().collect();
        while let Some(command) = inner.pop() {
            for argument in command.get_arguments() {
                let name = command.get_name();
                assert!(!own.contains(&argument.get_id()), "{name}: {argument:?}");
            }
            inner.extend(command.get_subcommands());
        }
    }

    #[test]
    fn examples_are_of_commands_that_are_here() {
        for line in examples()
            .lines()
            .filter(|line| line.starts_with("  sentinel"))
        {
            let name = line.split_whitespace().nth(1).unwrap();
            let command = Arguments::command();
            assert!(command.find_subcommand(name).is_some(), "{line}");
            assert!(line.chars().count() <= 80, "broken in two: {line}");
        }
    }
}
