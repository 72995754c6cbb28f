//! `run`: the functions without the Functions host. `query`: the embedded tables.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    screen::{self, Saved, Screen},
    stop_on_signal,
};
use crate::{
    app::{App, Function, RunOptions, failed, list::with_list, live::Live, waiting},
    config::{Environment, ListPlace, Mode, Settings},
    core::metrics::prometheus,
    embedded::EmbeddedFile,
    error::{Error, Result},
    host::local,
    io::clock::{Clock, SharedClock},
    pipeline::{Outcome, Report},
    serve::Served,
    sink::workspace::Workspace,
    status::metrics::measures,
};

/// How often `--watch` looks whether a stream is due.
const LOOK: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct RunArguments {
    /// The functions to run; all when none is named
    #[arg(value_name = "FUNCTION")]
    functions: Vec<String>,
    /// Run once and end (the default)
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    /// Only the streams of this connection of `CONNECTIONS`
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// Run on and on, each stream as often as its `…_EVERY` says, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// With --watch, show the status page on this address of this machine, such as 127.0.0.1:8070
    #[arg(long, value_name = "ADDRESS:PORT", requires = "watch")]
    status: Option<SocketAddr>,
}

pub(super) async fn run(
    arguments: RunArguments,
    environment: Environment,
    mut settings: Settings,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    let mut functions = functions(&arguments.functions)?;
    if let Some(name) = &arguments.connection {
        settings.keep_connection(name)?;
    }
    let app = App::build(&settings, &clock)?;
    let pulls = |function: &Function| app.jobs_of(*function).next().is_some();
    if arguments.connection.is_some() && arguments.functions.is_empty() {
        // The outbox is everybody's.
        functions.retain(pulls);
    }
    // The push needs no connection; but whoever names nothing wants something pulled.
    let pushes = !arguments.functions.is_empty() && functions.contains(&Function::Push);
    if !pushes && !functions.iter().any(pulls) {
        let mut text =
            "no connection is configured: set `ESET_REGION`, `ESET_LOGIN` and `ESET_PASSWORD` in \
                        the environment or in ./local.settings.json"
                .to_owned();
        if cfg!(feature = "cli") {
            text.push_str(", let `sentinel-connector init` ask for them");
        }
        if cfg!(feature = "simulator") {
            text.push_str(", or try `sentinel-connector demo`");
        }
        return Err(Error::config(text));
    }
    let stop = stop_on_signal()?;
    if arguments.watch {
        // Of one connection alone nothing is looked for in the list.
        let app = Arc::new(app);
        let follows = arguments.connection.is_none() && ListPlace::of(&environment)?.is_some();
        let live = if follows {
            Live::new(environment, Mode::Local, Ok(settings), Arc::clone(&clock))
        } else {
            let environment = with_list(environment, Mode::Local, &clock).await;
            let (app, clock) = (Arc::clone(&app), Arc::clone(&clock));
            Live::fixed(app, environment, Mode::Local, settings, clock)
        };
        let live = Arc::new(live);
        let _page = match arguments.status {
            None => None,
            Some(address) => Some(show_status(address, &live, &clock, &stop).await?),
        };
        return watch(app, &live, &functions, &stop, &*clock, screen).await;
    }
    let reports = once(&app, &functions, true, &stop, screen).await;
    screen.summary(&reports)?;
    if stop.is_cancelled() {
        screen.note(Saved::of(&reports));
    }
    if let Some(error) = failed(&reports) {
        return Err(error);
    }
    waiting(&reports, app.parts()).await.map_or(Ok(()), Err)
}

fn functions(named: &[String]) -> Result<Vec<Function>> {
    if named.is_empty() {
        return Ok(Function::TIMERS.to_vec());
    }
    named.iter().map(|name| Function::timer(name)).collect()
}

/// All streams of the functions, once.
pub(super) async fn once(
    app: &App,
    functions: &[Function],
    at_once: bool,
    stop: &CancellationToken,
    screen: Screen,
) -> Vec<Report> {
    let board = screen::Board::new(screen, &app.parts().clock);
    let options = RunOptions {
        at_once,
        progress: board.progress(),
        stop: stop.clone(),
        ..RunOptions::default()
    };
    let mut reports = Vec::new();
    for function in functions {
        reports.extend(app.run(*function, &options).await);
    }
    reports
}

/// Shows the status page on an address of this machine, as long as what it gives back is kept.
pub(super) async fn show_status(
    address: SocketAddr,
    live: &Arc<Live>,
    clock: &SharedClock,
    stop: &CancellationToken,
) -> Result<AbortOnDropHandle<Result<()>>> {
    let listener = local::bind(address).await?;
    let address = listener.local_addr().unwrap_or(address);
    screen::line(format!("The status page is at http://{address}/"));
    let served = Arc::new(Served::over(Arc::clone(live), Arc::clone(clock)));
    let serving = local::serve(listener, served, Function::Status.folder(), stop.clone());
    Ok(AbortOnDropHandle::new(tokio::spawn(serving)))
}

/// Runs on and on; with the list of connections as it is then, where that is a file or a blob.
async fn watch(
    mut app: Arc<App>,
    live: &Live,
    functions: &[Function],
    stop: &CancellationToken,
    clock: &dyn Clock,
    screen: Screen,
) -> Result<()> {
    screen.reports_begin();
    let mut told = Saved::default();
    let options = RunOptions {
        at_once: false,
        progress: Arc::new(move |report| {
            if !matches!(report.outcome, Outcome::Running | Outcome::NotDue) {
                screen.report(report);
            }
        }),
        stop: stop.clone(),
        ..RunOptions::default()
    };
    while !stop.is_cancelled() {
        if let Ok(now) = live.in_force().await.app {
            app = now;
        }
        for function in functions {
            told.add(&app.run(*function, &options).await);
        }
        tokio::select! {
            () = clock.sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
    screen.note(told);
    Ok(())
}

/// The numbers that runs have left.
pub(super) async fn metrics(
    settings: &Settings,
    clock: &SharedClock,
    screen: Screen,
) -> Result<()> {
    let app = App::build(settings, clock)?;
    let measures = measures(&app).await?;
    screen.say(prometheus(&measures).trim_end());
    Ok(())
}

pub(super) async fn query(sql: &str, settings: &Settings, screen: Screen) -> Result<()> {
    // Nothing is written for a question where there is a file already.
    let workspace = match EmbeddedFile::read_only(&settings.data)? {
        Some(file) => Workspace::read_only(file),
        None => Workspace::new(EmbeddedFile::open(&settings.data)?)?,
    };
    let answer = workspace.query(sql).await?;
    screen.rows(&answer)
}
