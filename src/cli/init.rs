//! `init`: asks for the settings of a first connection, tries each answer, and writes them down.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use dialoguer::{Confirm, Input};
use serde_json::json;

use super::{
    check::{FINDINGS, judged},
    screen::{self, Screen},
};
use crate::{
    app::App,
    check::{self, Finding, Found},
    config::{Environment, Mode, SETTINGS, Scope, Settings},
    core::protocol::source_kind::SourceKind,
    error::{Error, Result},
    io::clock::SharedClock,
};

/// What the Functions host needs beside our own settings, for `func start`.
const FOR_THE_HOST: [(&str, &str); 5] = [
    ("FUNCTIONS_WORKER_RUNTIME", "custom"),
    ("AzureWebJobsStorage", "UseDevelopmentStorage=true"),
    ("ESET_SCHEDULE", "0 */5 * * * *"),
    ("DEFENDER_SCHEDULE", "0 */5 * * * *"),
    ("PUSH_SCHEDULE", "30 */5 * * * *"),
];

/// State is kept in a file until somebody moves it: nothing else has to be there for a first run.
const STATE: (&str, &str) = ("STORAGE", "embedded");

const SINK: &str = "SINK";
const EMBEDDED: &str = "embedded";

#[derive(clap::Args)]
pub(super) struct InitArguments {
    /// Where it is pulled from, comma-separated: eset, defender
    #[arg(long, value_delimiter = ',', value_parser = source)]
    source: Vec<SourceKind>,
    /// Data centre of the ESET tenant: eu, us, jpn, ca or de
    #[arg(long)]
    region: Option<String>,
    /// Login of the ESET API user; its password is asked for, or stands in `ESET_PASSWORD`
    #[arg(long)]
    login: Option<String>,
    /// Tenant whose Microsoft Defender is read
    #[arg(long)]
    tenant: Option<String>,
    /// Client id of the app registration that reads it; its secret is asked for, or stands in
    /// `DEFENDER_CLIENT_SECRET`
    #[arg(long)]
    client_id: Option<String>,
    /// Where rows go: embedded (a file on this machine) or logs-ingestion
    #[arg(long)]
    sink: Option<String>,
    /// Endpoint that rows are sent to, with logs-ingestion
    #[arg(long)]
    endpoint: Option<String>,
    /// Immutable id of the data collection rule, with logs-ingestion
    #[arg(long)]
    rule: Option<String>,
    /// Write the answers to this file
    #[arg(long, value_name = "FILE", default_value = super::LOCAL_SETTINGS)]
    file: PathBuf,
    /// Replace the file, if there is one
    #[arg(long)]
    force: bool,
    /// Ask no service whether the answers work
    #[arg(long)]
    offline: bool,
}

fn source(word: &str) -> std::result::Result<SourceKind, String> {
    let all = [SourceKind::Eset, SourceKind::Defender];
    let found = all.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| "expected eset or defender".to_owned())
}

/// One answer: the setting that it becomes, and how it is asked for.
struct Question {
    setting: &'static str,
    text: &'static str,
    /// What gives the answer where nobody can be asked.
    otherwise: &'static str,
    default: Option<&'static str>,
    secret: bool,
}

impl Question {
    const fn new(setting: &'static str, text: &'static str, otherwise: &'static str) -> Self {
        Self {
            setting,
            text,
            otherwise,
            default: None,
            secret: false,
        }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

const OF_ESET: [Question; 3] = [
    Question::new(
        "ESET_REGION",
        "Data centre of the ESET tenant (eu, us, jpn, ca, de)",
        "--region",
    )
    .default("eu"),
    Question::new("ESET_LOGIN", "Login of the ESET API user", "--login"),
    Question::new(
        "ESET_PASSWORD",
        "Its password",
        "the variable ESET_PASSWORD",
    )
    .secret(),
];

const OF_DEFENDER: [Question; 3] = [
    Question::new(
        "DEFENDER_TENANT_ID",
        "Tenant whose Microsoft Defender is read",
        "--tenant",
    ),
    Question::new(
        "DEFENDER_CLIENT_ID",
        "Client id of the app registration that reads it",
        "--client-id",
    ),
    Question::new(
        "DEFENDER_CLIENT_SECRET",
        "Its client secret (the value, not the id)",
        "the variable DEFENDER_CLIENT_SECRET",
    )
    .secret(),
];

const OF_SINK: Question = Question::new(
    SINK,
    "Where rows go: embedded (a file on this machine) or logs-ingestion",
    "--sink",
)
.default(EMBEDDED);

const OF_LOGS_INGESTION: [Question; 2] = [
    Question::new(
        "LOGS_INGESTION_ENDPOINT",
        "Endpoint of the data collection endpoint or rule",
        "--endpoint",
    ),
    Question::new(
        "DCR_IMMUTABLE_ID",
        "Immutable id of the data collection rule",
        "--rule",
    ),
];

pub(super) async fn init(
    arguments: InitArguments,
    environment: Environment,
    clock: SharedClock,
    screen: Screen,
) -> Result<()> {
    let file = arguments.file.clone();
    #[cfg(unix)]
    show_again_on_signal()?;
    let mut dialog = Dialog::new(&arguments, environment, clock, screen);
    dialog.may_replace(&file, arguments.force)?;
    let (eset, defender) = dialog.sources(&arguments)?;
    dialog.answers.push(STATE.map_to_owned());
    if eset {
        dialog.ask(&OF_ESET, Tried::Sources).await?;
    }
    if defender {
        dialog.ask(&OF_DEFENDER, Tried::Sources).await?;
    }
    dialog.ask(&[OF_SINK], Tried::Nothing).await?;
    if dialog.answer_to(SINK) == Some(EMBEDDED) {
        dialog.ask(&[], Tried::Sink).await?;
    } else {
        dialog.ask(&OF_LOGS_INGESTION, Tried::Sink).await?;
    }
    dialog.write(&file)?;
    screen.data(&FINDINGS, &dialog.findings)?;
    let program = screen::program();
    screen.say(format!(
        "`{}` is written, for your eyes only. Next: `{program} check` looks at everything once more, \
         `{program} run --once` pulls.",
        file.display()
    ));
    Ok(())
}

/// Pairs of fixed texts as texts of one's own.
trait MapToOwned {
    fn map_to_owned(self) -> (String, String);
}

impl MapToOwned for (&str, &str) {
    fn map_to_owned(self) -> (String, String) {
        (self.0.to_owned(), self.1.to_owned())
    }
}

/// What is tried once a few questions are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Nothing,
    Sources,
    Sink,
}

/// Questions, and what has been answered.
struct Dialog {
    /// What the flags say, by setting.
    given: Vec<(&'static str, String)>,
    environment: Environment,
    clock: SharedClock,
    screen: Screen,
    answers: Vec<(String, String)>,
    findings: Vec<Finding>,
    /// True when somebody can be asked.
    asks: bool,
    offline: bool,
}

impl Dialog {
    fn new(
        arguments: &InitArguments,
        environment: Environment,
        clock: SharedClock,
        screen: Screen,
    ) -> Self {
        let given = [
            ("ESET_REGION", &arguments.region),
            ("ESET_LOGIN", &arguments.login),
            ("DEFENDER_TENANT_ID", &arguments.tenant),
            ("DEFENDER_CLIENT_ID", &arguments.client_id),
            (SINK, &arguments.sink),
            ("LOGS_INGESTION_ENDPOINT", &arguments.endpoint),
            ("DCR_IMMUTABLE_ID", &arguments.rule),
        ];
        let given = given.into_iter();
        Self {
            given: given
                .filter_map(|(setting, value)| Some((setting, value.clone()?)))
                .collect(),
            environment,
            clock,
            screen,
            answers: Vec::new(),
            findings: Vec::new(),
            asks: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            offline: arguments.offline,
        }
    }

    /// Nothing is overwritten unless somebody says so.
    fn may_replace(&self, file: &Path, force: bool) -> Result<()> {
        let shown = file.display();
        if force || !file.exists() {
            return Ok(());
        }
        if self.asks && confirmed(&format!("`{shown}` exists. Replace it?"), false)? {
            return Ok(());
        }
        Err(Error::config(format!(
            "`{shown}` exists and stays as it is: `--force` replaces it, `--file` names another"
        )))
    }

    /// Whether ESET is pulled, and whether Defender is.
    fn sources(&self, arguments: &InitArguments) -> Result<(bool, bool)> {
        let named = |kind| arguments.source.contains(&kind);
        let eset = arguments.region.is_some() || arguments.login.is_some();
        let defender = arguments.tenant.is_some() || arguments.client_id.is_some();
        let mut both = (
            eset || named(SourceKind::Eset),
            defender || named(SourceKind::Defender),
        );
        if both == (false, false) && self.asks {
            both = (
                confirmed("Is there an ESET tenant to pull?", true)?,
                confirmed("Is there a Microsoft Defender to pull?", false)?,
            );
        }
        if both == (false, false) {
            return Err(Error::config(
                "nothing to pull: `--source eset`, `--source defender` or both say where from",
            ));
        }
        Ok(both)
    }

    fn answer_to(&self, setting: &str) -> Option<&str> {
        let mut answers = self.answers.iter().rev();
        let found = answers.find(|(name, _)| name == setting);
        found.map(|(_, value)| value.as_str())
    }

    /// Gets an answer to each question and tries them together, until they work or somebody is content.
    async fn ask(&mut self, questions: &[Question], tried: Tried) -> Result<()> {
        let mut again = false;
        loop {
            for question in questions {
                self.answer(question, again)?;
            }
            let found = self.tried(tried).await?;
            if self.screen.is_for_people() {
                let worth = |one: &&Finding| one.found == Found::Bad || !self.screen.is_quiet();
                screen::findings(found.iter().filter(worth));
            }
            let end = judged(&found);
            self.findings.extend(found);
            if end.is_ok() {
                return Ok(());
            }
            if !self.asks {
                self.screen.data(&FINDINGS, &self.findings)?;
                return end.map_err(|error| error.context("nothing was written".to_owned()));
            }
            if questions.is_empty() || !confirmed("Enter these again?", true)? {
                self.screen.note("taken as it is");
                return Ok(());
            }
            again = true;
        }
    }

    /// The answer from a flag, the environment or somebody; the last one asks until it can be one.
    fn answer(&mut self, question: &Question, again: bool) -> Result<()> {
        let setting = question.setting;
        let given = self.given.iter().find(|(name, _)| *name == setting);
        let given = given.map(|(_, value)| value.clone());
        let given = given.or_else(|| self.environment.get(setting).map(str::to_owned));
        let mut given = given.filter(|_| !again);
        loop {
            let is_given = given.is_some();
            let value = match given.take() {
                Some(value) => value,
                None if self.asks => asked(question, self.answer_to(setting))?,
                None => match question.default {
                    Some(default) => default.to_owned(),
                    None => {
                        return Err(Error::config(format!(
                            "`{setting}` is not known, and nobody can be asked: {} gives it",
                            question.otherwise
                        )));
                    }
                },
            };
            let Some(wrong) = self.wrong(setting, &value) else {
                self.answers.retain(|(name, _)| name != setting);
                self.answers.push((setting.to_owned(), value));
                return Ok(());
            };
            if !self.asks {
                return Err(Error::config(wrong));
            }
            let from = if is_given { "what was given: " } else { "" };
            screen::complain(&format!("{from}{wrong}"));
        }
    }

    /// What is wrong with a value by itself.
    fn wrong(&self, setting: &str, value: &str) -> Option<String> {
        let answer = (setting.to_owned(), value.to_owned());
        let answers = self.answers.iter().cloned().chain([answer]);
        let problems = match Settings::load(&self.environment.with_values(answers), Mode::Local) {
            Ok(settings) => settings.problems().cloned().collect(),
            Err(problems) => problems.problems,
        };
        let own = problems.into_iter().find(|one| one.setting == setting);
        own.map(|problem| problem.to_string())
    }

    /// Asks whom the answers are for.
    async fn tried(&self, what: Tried) -> Result<Vec<Finding>> {
        if what == Tried::Nothing || self.offline {
            return Ok(Vec::new());
        }
        let mut answers = self.answers.clone();
        if what == Tried::Sources {
            answers.push((SINK.to_owned(), EMBEDDED.to_owned()));
        }
        let environment = self.environment.with_values(answers);
        let settings = Settings::load(&environment, Mode::Local)?;
        let wait = self.screen.wait("trying what was answered");
        let mut found = Vec::new();
        let mut tell = |finding| found.push(finding);
        match App::build(&settings, &self.clock) {
            Ok(app) if what == Tried::Sources => check::sources(&app, &mut tell).await,
            Ok(app) => check::sink(&app, &mut tell).await,
            Err(error) => tell(Finding {
                found: Found::Bad,
                what: "parts".to_owned(),
                text: error.to_string(),
            }),
        }
        drop(wait);
        Ok(found)
    }

    /// Beside the file first: it is the old one or the new one, and nobody else can read it.
    fn write(&self, file: &Path) -> Result<()> {
        let host = FOR_THE_HOST.map(MapToOwned::map_to_owned).into_iter();
        // What it was tried with is what it runs with, also where the environment is another one.
        let ours = SETTINGS
            .iter()
            .filter(|setting| setting.scope != Scope::Platform);
        let names = ours.flat_map(|setting| setting.aliases.iter().chain([&setting.name]));
        let set = names.filter_map(|name| {
            let value = self.environment.get(name)?;
            Some((*name, value).map_to_owned())
        });
        let values = host.chain(set).chain(self.answers.iter().cloned());
        let values: std::collections::BTreeMap<_, _> = values.collect();
        let text = format!("{:#}\n", json!({ "IsEncrypted": false, "Values": values }));
        let mut beside = file.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = fs::OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // One that was left behind may be somebody else's to read.
        drop(fs::remove_file(&beside));
        let written = options.open(&beside).and_then(|mut new| {
            new.write_all(text.as_bytes())?;
            new.sync_all()?;
            fs::rename(&beside, file)
        });
        written.map_err(|error| {
            drop(fs::remove_file(&beside));
            Error::config(format!("`{}` can't be written: {error}", file.display()))
        })
    }
}

/// Asks somebody at the terminal; what is secret is not shown.
fn asked(question: &Question, before: Option<&str>) -> Result<String> {
    if question.secret {
        return hidden(question.text).map_err(unanswered);
    }
    let input = Input::new().with_prompt(question.text);
    let input = match before.or(question.default) {
        Some(default) => input.default(default.to_owned()),
        None => input,
    };
    input.interact_text().map_err(unanswered)
}

/// A line that is not shown. The terminal shows nothing from before the question on: not even what
/// somebody types ahead of it.
#[cfg(unix)]
fn hidden(text: &str) -> std::io::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    let shown = tcgetattr(&stdin)?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = write!(stderr, "{text}: ").and_then(|()| stdin.read_line(&mut line));
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    writeln!(stderr)?;
    match read? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// Has the terminal show what is typed again when somebody ends the program at a secret: it would stay
/// silent for the shell behind it. Questions hold the program's own thread.
#[cfg(unix)]
#[allow(clippy::exit, reason = "a question holds the thread that would return")]
fn show_again_on_signal() -> Result<()> {
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    let Ok(shown) = tcgetattr(std::io::stdin()) else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::config(format!("signals can't be handled: {error}")))?;
    let entered = runtime.enter();
    let signal = crate::host::terminated()?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(signal);
        if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, &shown) {
            screen::complain(&format!(
                "the terminal stays silent ({error}): type `stty echo`"
            ));
        }
        screen::complain("nothing was written: ended by somebody");
        std::process::exit(130);
    });
    Ok(())
}

#[cfg(not(unix))]
fn hidden(text: &str) -> dialoguer::Result<String> {
    dialoguer::Password::new().with_prompt(text).interact()
}

fn confirmed(question: &str, default: bool) -> Result<bool> {
    let confirm = Confirm::new()
        .with_prompt(question)
        .default(default)
        .wait_for_newline(true);
    confirm.interact().map_err(unanswered)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it stands where a closure is expected"
)]
fn unanswered(error: impl std::fmt::Display) -> Error {
    Error::config(format!("nothing was written: no answer ({error})"))
}
