//! `check`: what was looked at, a line each, what is wrong first.

use indicatif::HumanBytes;
use serde::Serialize;

use super::screen::{self, Screen, SheetColumn, grouped};
use crate::{
    app::{App, RouteTable, list::with_list},
    check::{
        self, Finding, Found,
        estimate::{estimates, switch_all_on},
        volume::Estimate,
    },
    config::{Environment, ListPlace, Mode, SETTINGS, Settings},
    core::{count::counted, position::cursor::StreamKey},
    error::{Error, Result},
    io::clock::SharedClock,
};

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct CheckArguments {
    /// Settings alone, without opening or asking anything
    #[arg(long)]
    offline: bool,
    /// Settings that are left as they are by default, too
    #[arg(long)]
    all: bool,
    /// Only this connection of `CONNECTIONS`
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// In place of all that, how much each stream brings a day, from at most three calls each
    #[arg(long, conflicts_with_all = ["offline", "all"])]
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
            all: false,
            connection: Some(connection),
            estimate: false,
            all_streams: false,
        }
    }
}

/// A finding in a list.
pub(super) const FINDINGS: [SheetColumn<Finding>; 3] = [
    SheetColumn::data("found"),
    SheetColumn::data("what"),
    SheetColumn::data("text"),
];

pub(super) async fn check(
    arguments: CheckArguments,
    environment: Environment,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    // Nobody is asked offline, and a file is at hand.
    let is_away = matches!(ListPlace::of(&environment), Ok(Some(ListPlace::Blob(_))));
    let environment = if arguments.offline && is_away {
        screen.note("the list of connections is not read: it is a blob");
        environment.without_connections()
    } else {
        with_list(environment, Mode::Local, &clock).await
    };
    if arguments.estimate {
        return estimate(&arguments, &environment, &clock, screen).await;
    }
    look(&arguments, &environment, &clock, screen).await
}

/// Shows everything that is looked at, and says how much of it is bad.
pub(super) async fn look(
    arguments: &CheckArguments,
    environment: &Environment,
    clock: &SharedClock,
    screen: Screen,
) -> Result<()> {
    let findings = findings(arguments, environment, clock, screen).await?;
    if !screen.data(&FINDINGS, &findings)? {
        show(&findings, arguments.all, environment, screen);
    }
    judged(&findings)
}

/// An error where something is bad.
pub(super) fn judged(findings: &[Finding]) -> Result<()> {
    let bad = findings.iter().filter(|one| one.found == Found::Bad);
    match bad.count() {
        0 => Ok(()),
        1 => Err(Error::config(
            "1 line says BAD: its end says how to mend it",
        )),
        bad => Err(Error::config(format!(
            "{bad} lines say BAD: their ends say how to mend it"
        ))),
    }
}

async fn findings(
    arguments: &CheckArguments,
    environment: &Environment,
    clock: &SharedClock,
    screen: Screen,
) -> Result<Vec<Finding>> {
    let wait = screen.wait("looking at the settings");
    let mut findings = Vec::new();
    let mut tell = |finding: Finding| {
        wait.says(&finding.what);
        findings.push(finding);
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
    Ok(findings)
}

/// What is wrong, what is worth knowing, what is well; and of the settings those that somebody has set.
pub(super) fn show(findings: &[Finding], all: bool, environment: &Environment, screen: Screen) {
    let is_default = |one: &Finding| {
        let setting = SETTINGS.iter().find(|setting| setting.name == one.what);
        one.found == Found::Ok
            && setting.is_some_and(|setting| {
                let mut names = setting.aliases.iter().chain([&setting.name]);
                names.all(|name| environment.get(name).is_none())
            })
    };
    let shown = |one: &&Finding| all || !is_default(one);
    let verdicts = if screen.is_quiet() {
        &[Found::Bad] as &[Found]
    } else {
        &[Found::Bad, Found::Note, Found::Ok]
    };
    let these = verdicts.iter().flat_map(|verdict| {
        let these = findings.iter().filter(move |one| one.found == *verdict);
        these.filter(shown)
    });
    screen::findings(these);
    let hidden = findings.iter().filter(|one| !shown(one)).count() as u64;
    if hidden > 0 {
        let settings = counted(hidden, "setting");
        let are = if hidden == 1 { "is" } else { "are" };
        screen.say(format!(
            "{settings} {are} not set or at the default: `check --all` shows them"
        ));
    }
}

/// How much a stream will bring, or why that is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StreamEstimate {
    connection: String,
    stream: String,
    first_run: Option<u64>,
    rows_a_day: Option<u64>,
    bytes_a_day: Option<u64>,
    unfiltered_rows_a_day: Option<u64>,
    unfiltered_bytes_a_day: Option<u64>,
    estimated_from: Option<String>,
    error: Option<String>,
    #[serde(skip)]
    shown_as: String,
}

impl StreamEstimate {
    fn new((key, found): (StreamKey, Result<Estimate>)) -> Self {
        let shown_as = screen::named(&key);
        let (estimate, error) = match found {
            Ok(estimate) => (Some(estimate), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let unfiltered = estimate.as_ref().and_then(|one| one.unfiltered);
        Self {
            connection: key.connection,
            stream: key.stream,
            first_run: estimate.as_ref().and_then(|one| one.at_first),
            rows_a_day: estimate.as_ref().map(|one| one.rows),
            bytes_a_day: estimate.as_ref().map(|one| one.bytes),
            unfiltered_rows_a_day: unfiltered.map(|(rows, _)| rows),
            unfiltered_bytes_a_day: unfiltered.map(|(_, bytes)| bytes),
            estimated_from: estimate.map(|one| one.how),
            error,
            shown_as,
        }
    }

    /// All of them together, for people.
    fn sum(all: &[Self]) -> Self {
        let sum = |of: fn(&Self) -> Option<u64>| {
            let known = all.iter().filter_map(of);
            known.fold(0, u64::saturating_add)
        };
        let bytes = sum(|one| one.bytes_a_day);
        let month = u128::from(bytes) * 30;
        let gigabytes = month / 1_000_000_000;
        let hundredths = month / 10_000_000 % 100;
        Self {
            connection: String::new(),
            stream: String::new(),
            first_run: None,
            rows_a_day: Some(sum(|one| one.rows_a_day)),
            bytes_a_day: Some(bytes),
            unfiltered_rows_a_day: None,
            unfiltered_bytes_a_day: None,
            estimated_from: Some(format!("{gigabytes}.{hundredths:02} GB in 30 days")),
            error: None,
            shown_as: "all of these".to_owned(),
        }
    }
}

/// Of an estimate, in a list.
const ESTIMATES: [SheetColumn<StreamEstimate>; 9] = [
    SheetColumn::data("connection"),
    SheetColumn::text("stream", "stream", |one| one.shown_as.clone()),
    SheetColumn::number("first run", "firstRun", |one| {
        one.first_run.map_or_else(String::new, grouped)
    }),
    SheetColumn::number("rows a day", "rowsADay", |one| {
        one.rows_a_day.map_or_else(String::new, grouped)
    }),
    SheetColumn::number("bytes a day", "bytesADay", |one| {
        let bytes = one.bytes_a_day.map(|bytes| HumanBytes(bytes).to_string());
        bytes.unwrap_or_default()
    }),
    SheetColumn::text("estimated from", "estimatedFrom", |one| {
        let how = one.estimated_from.as_ref().or(one.error.as_ref());
        let how = how.cloned().unwrap_or_default();
        let all = one.unfiltered_rows_a_day.zip(one.unfiltered_bytes_a_day);
        all.map_or(how.clone(), |(rows, bytes)| {
            let (rows, bytes) = (grouped(rows), HumanBytes(bytes));
            format!("{how}; without the filter {rows} rows and {bytes} a day")
        })
    }),
    SheetColumn::data("unfilteredRowsADay"),
    SheetColumn::data("unfilteredBytesADay"),
    SheetColumn::data("error"),
];

async fn estimate(
    arguments: &CheckArguments,
    environment: &Environment,
    clock: &SharedClock,
    screen: Screen,
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
    let wait = screen.wait("asking at most three times for each stream");
    let estimates = estimates(&app).await;
    drop(wait);
    let mut all: Vec<_> = estimates.into_iter().map(StreamEstimate::new).collect();
    let unknown = all.iter().filter(|one| one.error.is_some()).count();
    let streams = all.len();
    if screen.is_for_people() {
        all.push(StreamEstimate::sum(&all));
    }
    screen.list(&ESTIMATES, &all, "")?;
    match unknown {
        0 => Ok(()),
        some => Err(Error::config(format!(
            "of {some} of {streams} streams nothing is known: `check` says how to mend it"
        ))),
    }
}
