//! `connections`: the list of connections, in the settings, a file or a blob.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    check::{CheckArguments, look},
    screen::{self, Screen, SheetColumn},
};
use crate::{
    app::list::{ConnectionList, ListVersion, with_list},
    config::{Environment, Mode, Problem, Settings, elements},
    core::{protocol::source_kind::SourceKind, spelling::hint},
    error::{Error, Result},
    io::clock::SharedClock,
};

#[derive(clap::Subcommand)]
pub(super) enum ConnectionsCommand {
    /// List the connections: on, disabled or wrong
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try the settings and the dependencies of one connection
    Check {
        /// The connection, as `connections list` names it
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a connection to the file or the blob that `CONNECTIONS` names
    Add {
        /// Its name: lower case letters, digits and `-`
        name: String,
        /// Where it is pulled from: eset or defender
        source: String,
        /// How often its streams run, such as 15m
        #[arg(long)]
        every: Option<String>,
        /// A setting of its own, and no secret
        #[arg(long = "set", value_name = "SETTING=VALUE")]
        settings: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Switch a connection of that file or blob off, and keep it there
    Disable {
        /// The connection, as `connections list` names it
        name: String,
        /// Switch it on again
        #[arg(long)]
        undo: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A connection, as it is shown.
#[derive(Serialize)]
struct ShownConnection {
    name: String,
    source: Option<&'static str>,
    state: &'static str,
    problem: Option<String>,
}

/// Of a connection, in a list.
const CONNECTIONS: [SheetColumn<ShownConnection>; 4] = [
    SheetColumn::data("name"),
    SheetColumn::data("source"),
    SheetColumn::data("state"),
    SheetColumn::data("problem"),
];

/// What became of a connection.
#[derive(Serialize)]
struct ConnectionChange {
    name: String,
    state: &'static str,
    place: String,
}

/// Of a change, in a list.
const CHANGES: [SheetColumn<ConnectionChange>; 3] = [
    SheetColumn::data("name"),
    SheetColumn::data("state"),
    SheetColumn::data("place"),
];

pub(super) async fn connections(
    command: ConnectionsCommand,
    environment: Environment,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    match command {
        ConnectionsCommand::List { json } => {
            let environment = with_list(environment, Mode::Local, &clock).await;
            let settings = Settings::load(&environment, Mode::Local)?;
            list(&settings, screen.or_json(json))
        }
        ConnectionsCommand::Check { name, json } => {
            let environment = with_list(environment, Mode::Local, &clock).await;
            let arguments = CheckArguments::of(name);
            look(&arguments, &environment, &clock, screen.or_json(json)).await
        }
        ConnectionsCommand::Add {
            name,
            source,
            every,
            settings,
            json,
        } => {
            let mut added = Map::new();
            added.insert("name".to_owned(), name.clone().into());
            added.insert("source".to_owned(), source.into());
            added.extend(every.map(|every| ("every".to_owned(), every.into())));
            let own = own(&settings)?;
            if !own.is_empty() {
                added.insert("settings".to_owned(), own.into());
            }
            let mut kept = ListChange::open(environment, &clock).await?;
            if kept.position(&name).is_some() {
                return Err(Error::config(format!(
                    "there is a connection `{name}`: change it in {}",
                    kept.list.place()
                )));
            }
            kept.elements.push(added.into());
            kept.check_last(&name, screen)?;
            kept.save().await?;
            kept.say(name, "on", screen.or_json(json))
        }
        ConnectionsCommand::Disable { name, undo, json } => {
            let mut kept = ListChange::open(environment, &clock).await?;
            let names = kept.elements.iter().filter_map(|one| one["name"].as_str());
            let missing = format!("there is no connection `{name}`{}", hint(&name, names));
            let element = kept
                .position(&name)
                .and_then(|position| kept.elements[position].as_object_mut())
                .ok_or_else(|| Error::config(missing))?;
            if undo {
                element.remove("disabled");
            } else {
                element.insert("disabled".to_owned(), true.into());
            }
            kept.save().await?;
            let state = if undo { "on" } else { "disabled" };
            kept.say(name, state, screen.or_json(json))
        }
    }
}

fn list(settings: &Settings, screen: Screen) -> Result<()> {
    let on = settings.connections.iter().map(|one| ShownConnection {
        name: one.name.clone(),
        source: Some(one.source.kind().word()),
        state: "on",
        problem: None,
    });
    let wrong = settings.broken.iter().map(|one| ShownConnection {
        name: one.name.clone(),
        source: one.kind.map(SourceKind::word),
        state: "wrong",
        problem: Some(one.error().to_string()),
    });
    let disabled = settings.disabled.iter().map(|name| ShownConnection {
        name: name.clone(),
        source: None,
        state: "disabled",
        problem: None,
    });
    let all: Vec<_> = on.chain(wrong).chain(disabled).collect();
    if screen.data(&CONNECTIONS, &all)? {
        return Ok(());
    }
    for one in &all {
        let head = format!(
            "{:<9} {:<32} {:<9}",
            one.state,
            one.name,
            one.source.unwrap_or("-")
        );
        screen::item(&head, one.problem.as_deref().unwrap_or_default());
    }
    if all.is_empty() {
        screen::line("there is no connection");
    }
    Ok(())
}

/// `NAME=VALUE`, each.
fn own(settings: &[String]) -> Result<Map<String, Value>> {
    let pair = |setting: &String| {
        let (name, value) = setting.split_once('=').ok_or_else(|| {
            // Whatever it is, it may be a secret.
            Error::config("`--set` takes `SETTING=VALUE`, such as `--set ESET_REGION=eu`")
        })?;
        Ok((name.trim().to_owned(), value.into()))
    };
    settings.iter().map(pair).collect()
}

/// The list that commands change.
struct ListChange {
    environment: Environment,
    list: ConnectionList,
    version: Option<ListVersion>,
    elements: Vec<Value>,
}

impl ListChange {
    async fn open(environment: Environment, clock: &SharedClock) -> Result<Self> {
        let list = ConnectionList::open(&environment, Mode::Local, clock)?.ok_or_else(|| {
            Error::config(
                "the list of connections is not in a file or a blob, so it is changed where the settings \
                 are: to have it changed here, set `CONNECTIONS` to `@connections.json` or \
                 `@blob:connections.json`",
            )
        })?;
        let version = list.current().await?;
        let text = version.as_ref().map_or("[]", |version| &version.text);
        let elements = elements(text)
            .map_err(|text| Error::config(format!("{} {text}: mend it first", list.place())))?;
        Ok(Self {
            environment,
            list,
            version,
            elements,
        })
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.elements.iter().position(|one| one["name"] == name)
    }

    fn text(&self) -> String {
        format!("{:#}\n", Value::from(self.elements.clone()))
    }

    /// What is wrong with the last one. A secret that is missing here may be where the app runs.
    fn check_last(&self, name: &str, screen: Screen) -> Result<()> {
        let environment = self.environment.with_connections(Ok(self.text()), None);
        let element = format!("element {}:", self.elements.len());
        let is_own = |problem: &Problem| {
            problem.connection.as_deref() == Some(name)
                || problem.text.starts_with(&element)
                || problem.text.starts_with(&format!("connection `{name}`:"))
        };
        let problems = match Settings::load(&environment, Mode::Local) {
            Ok(settings) => settings.problems().cloned().collect(),
            Err(problems) => problems.problems,
        };
        let own = problems.into_iter().filter(is_own);
        let (missing, wrong): (Vec<_>, Vec<_>) = own.partition(Problem::is_missing_secret);
        for problem in missing {
            screen.note(problem);
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Err(Error::config(texts.join("; ")))
    }

    async fn save(&self) -> Result<()> {
        self.list.write(self.text(), self.version.as_ref()).await
    }

    fn say(&self, name: String, state: &'static str, screen: Screen) -> Result<()> {
        let place = self.list.place().to_string();
        let change = ConnectionChange { name, state, place };
        let ConnectionChange { name, place, .. } = &change;
        screen.say(format!("`{name}` is {state} in {place}"));
        if screen.is_json() {
            return screen::json(&change);
        }
        screen.data(&CHANGES, &[change]).map(drop)
    }
}
