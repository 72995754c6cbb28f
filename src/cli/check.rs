//! `check`: what was looked at, a line each.

use super::screen;
use crate::{
    app::{App, RouteTable, list::with_list},
    check::{
        self, Finding, Found,
        estimate::{estimates, switch_all_on},
    },
    config::{Environment, ListPlace, Mode, Settings},
    error::{Error, Result},
    io::clock::SharedClock,
};

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    /// Settings alone, without opening or asking anything
    #[arg(long)]
    offline: bool,
    /// Only this connection of `CONNECTIONS`
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// In place of all that, how much each stream brings a day, from at most three calls each
    #[arg(long, conflicts_with = "offline")]
    estimate: bool,
    /// With --estimate: every stream that the connections could read, switched on or not
    #[arg(long, requires = "estimate")]
    all_streams: bool,
}

impl CheckArguments {
    /// Everything that concerns a connection.
    pub(super) fn of(connection: String) -> Self {
        Self {
            offline: false,
            connection: Some(connection),
            estimate: false,
            all_streams: false,
        }
    }
}

pub(super) async fn check(
    arguments: CheckArguments,
    environment: Environment,
    clock: SharedClock,
) -> Result<()> {
    // Nobody is asked offline, and a file is at hand.
    let is_away = matches!(ListPlace::of(&environment), Ok(Some(ListPlace::Blob(_))));
    let environment = if arguments.offline && is_away {
        screen::complain("note: the list of connections is not read: it is a blob");
        environment.without_connections()
    } else {
        with_list(environment, Mode::Local, &clock).await
    };
    if arguments.estimate {
        return estimate(&arguments, &environment, &clock).await;
    }
    look(&arguments, &environment, &clock, &mut |finding| {
        show(&finding);
    })
    .await
}

/// Tells everything that is looked at, and then how much of it is bad.
pub(super) async fn look(
    arguments: &CheckArguments,
    environment: &Environment,
    clock: &SharedClock,
    shown: check::Tell<'_>,
) -> Result<()> {
    let mut bad = 0;
    let mut tell = |finding: Finding| {
        bad += usize::from(finding.found == Found::Bad);
        shown(finding);
    };
    let settings = check::settings(environment, Mode::Local, &mut tell);
    if let Some(mut settings) = settings {
        if let Some(name) = &arguments.connection {
            settings.keep_connection(name)?;
        }
        let together = if arguments.offline {
            RouteTable::of(&settings).map(|_| None)
        } else {
            App::build(&settings, clock).map(Some)
        };
        match together {
            Ok(None) => {}
            Ok(Some(app)) => check::dependencies(&app, &mut tell).await,
            Err(error) => tell(Finding {
                found: Found::Bad,
                what: "parts".to_owned(),
                text: error.to_string(),
            }),
        }
    }
    match bad {
        0 => Ok(()),
        1 => Err(Error::config(
            "1 line says BAD: its end says how to mend it",
        )),
        bad => Err(Error::config(format!(
            "{bad} lines say BAD: their ends say how to mend it"
        ))),
    }
}

async fn estimate(
    arguments: &CheckArguments,
    environment: &Environment,
    clock: &SharedClock,
) -> Result<()> {
    let mut settings = Settings::load(environment, Mode::Local)?;
    if let Some(name) = &arguments.connection {
        settings.keep_connection(name)?;
    }
    if let Some(broken) = settings.broken.first() {
        return Err(broken.error());
    }
    if arguments.all_streams {
        switch_all_on(&mut settings);
    }
    let app = App::build(&settings, clock)?;
    let estimates = estimates(&app).await;
    screen::line(screen::estimates(&estimates));
    match estimates.iter().filter(|(_, found)| found.is_err()).count() {
        0 => Ok(()),
        some => Err(Error::config(format!(
            "of {some} of {} streams nothing is known: `check` says how to mend it",
            estimates.len()
        ))),
    }
}

pub(super) fn show(finding: &Finding) {
    let found = match finding.found {
        Found::Ok => "ok",
        Found::Note => "note",
        Found::Bad => "BAD",
    };
    screen::line(format!("{found:<5} {:<32} {}", finding.what, finding.text));
}
