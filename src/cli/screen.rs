//! What a person sees and a script reads: lines, lists and values, in the form that was asked for.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::{IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::CellAlignment;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    check::{Finding, Found},
    core::{
        count::{counted, noun},
        position::cursor::StreamKey,
    },
    error::{Error, Kind, Result},
    pipeline::{Outcome, Report},
    sink::workspace::Answer,
    status::span,
};

mod board;
mod sheet;

pub(super) use board::Board;
pub(super) use sheet::{SheetColumn, scalar};

pub(super) use crate::core::count::grouped;

/// How often a line moves.
const TICK: Duration = Duration::from_millis(120);

/// A terminal that is narrower has no room for text beside a name.
const ROOMY: usize = 100;

/// What is wrong.
const WRONG: Style = AnsiColor::Red.on_default().bold();

/// What is worth knowing.
const WORTH_KNOWING: Style = AnsiColor::Yellow.on_default();

/// What is as it should be.
const WELL: Style = AnsiColor::Green.on_default();

/// How every command answers.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "How it is shown")]
pub(super) struct Screen {
    /// As `table` (for people, and so by default), `json` (as schemas/cli describes it) or `csv`
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        hide_possible_values = true
    )]
    output: Option<OutputForm>,
    /// Say only what is wrong, and what was asked for
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// In which form a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    /// For people; without lines around it where it is piped
    Table,
    /// As schemas/cli describes it
    Json,
    /// A head and a record for each thing
    Csv,
}

impl Screen {
    /// JSON, where a command's own `--json` asks for it.
    pub(super) fn or_json(self, json: bool) -> Self {
        let output = if json {
            Some(OutputForm::Json)
        } else {
            self.output
        };
        Self { output, ..self }
    }

    fn form(self) -> OutputForm {
        self.output.unwrap_or(OutputForm::Table)
    }

    /// True when somebody asks for a form: what prints a document of its own has no other by default.
    pub(super) fn is_chosen(self) -> bool {
        self.output.is_some()
    }

    /// True when people are to read it.
    pub(super) fn is_for_people(self) -> bool {
        self.form() == OutputForm::Table
    }

    /// True when JSON is asked for.
    pub(super) fn is_json(self) -> bool {
        self.form() == OutputForm::Json
    }

    /// True when nobody wants to hear what goes well.
    pub(super) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// A line about what was done; a script asks for the data instead.
    pub(super) fn say(self, text: impl Display) {
        if self.is_for_people() && !self.quiet {
            line(text);
        }
    }

    /// A line on stderr about what is worth knowing.
    pub(super) fn note(self, text: impl Display) {
        if !self.quiet {
            complain(&format!("{}: {text}", styled(WORTH_KNOWING, "note")));
        }
    }

    /// Prints things as JSON or CSV, and says whether that was asked for: else people have to be told.
    pub(super) fn data<T: Serialize>(
        self,
        columns: &[SheetColumn<T>],
        items: &[T],
    ) -> Result<bool> {
        self.data_of(items, columns, items)
    }

    /// Prints a whole as JSON or the list in it as CSV, and says whether that was asked for.
    pub(super) fn data_of<T: Serialize>(
        self,
        whole: &(impl Serialize + ?Sized),
        columns: &[SheetColumn<T>],
        items: &[T],
    ) -> Result<bool> {
        match self.form() {
            OutputForm::Table => return Ok(false),
            OutputForm::Json => json(whole)?,
            OutputForm::Csv => whole_lines(&sheet::csv(columns, items)?),
        }
        Ok(true)
    }

    /// Prints a list; `none` is what people read where there is nothing.
    pub(super) fn list<T: Serialize>(
        self,
        columns: &[SheetColumn<T>],
        items: &[T],
        none: &str,
    ) -> Result<()> {
        if self.data(columns, items)? {
            return Ok(());
        }
        if items.is_empty() {
            line(none);
        } else {
            line(sheet::table(columns, items, width()));
        }
        Ok(())
    }

    /// Prints a table, unless nobody wants to hear what goes well.
    pub(super) fn summary(self, reports: &[Report]) -> Result<()> {
        if self.data(&REPORT_COLUMNS, reports)? || self.quiet {
            return Ok(());
        }
        line(sheet::table(&REPORT_COLUMNS, reports, width()));
        Ok(())
    }

    /// Prints one report of many, as they come: as JSON or CSV one a line.
    pub(super) fn report(self, report: &Report) {
        let told = match self.form() {
            OutputForm::Table if self.quiet => return,
            OutputForm::Table => Ok(described(report)),
            OutputForm::Json => serde_json::to_string(report).map_err(sheet::encoding),
            OutputForm::Csv => sheet::csv(&REPORT_COLUMNS, std::slice::from_ref(report))
                .map(|text| text.lines().skip(1).collect::<Vec<_>>().join("\n")),
        };
        told.map_or_else(|error| complain(&error.to_string()), line);
    }

    /// Prints what stands above the reports that come one a line.
    pub(super) fn reports_begin(self) {
        if self.form() == OutputForm::Csv {
            let head = sheet::csv::<Report>(&REPORT_COLUMNS, &[]);
            line(head.unwrap_or_default().trim_end());
        }
    }

    /// Shows on a terminal that something takes its time, until it is dropped.
    pub(super) fn wait(self, what: &'static str) -> Wait {
        let moves = !self.quiet && std::io::stderr().is_terminal();
        let bar = moves.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_message(what);
            bar.enable_steady_tick(TICK);
            bar
        });
        Wait(bar)
    }

    /// Prints rows whose columns nobody knows beforehand.
    pub(super) fn rows(self, answer: &Answer) -> Result<()> {
        let Answer { columns, rows } = answer;
        let cells = |row: &Vec<Option<String>>| -> Vec<String> {
            row.iter().cloned().map(Option::unwrap_or_default).collect()
        };
        match self.form() {
            OutputForm::Json => {
                let all: Vec<_> = rows.iter().map(|row| NamedRow { columns, row }).collect();
                json(&all)?;
            }
            OutputForm::Csv => whole_lines(&sheet::records(columns, rows.iter().map(cells))?),
            OutputForm::Table => {
                let sides = vec![CellAlignment::Left; columns.len()];
                let rows: Vec<_> = rows.iter().map(cells).collect();
                line(sheet::grid(columns, &sides, &rows, width()));
            }
        }
        Ok(())
    }
}

/// A line that moves while something takes its time.
pub(super) struct Wait(Option<ProgressBar>);

impl Wait {
    /// Says how far it is.
    pub(super) fn says(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(plain(text));
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A row with the names of its columns.
struct NamedRow<'a> {
    columns: &'a [String],
    row: &'a [Option<String>],
}

impl Serialize for NamedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.row.len()))?;
        for (column, value) in self.columns.iter().zip(self.row) {
            map.serialize_entry(column, value)?;
        }
        map.end()
    }
}

/// The program as it was started: whoever has it in no folder of `PATH` can repeat that.
#[cfg(any(feature = "cli", feature = "simulator"))]
pub(super) fn program() -> String {
    let program = std::env::args_os().next();
    let program = program.and_then(|program| program.into_string().ok());
    program.unwrap_or_else(|| "sentinel-connector".to_owned())
}

/// How many columns the terminal has that stdout is; none where it is a file or a pipe.
fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    // One that does not know its size is taken for the usual one.
    let size = terminal_size::terminal_size_of(&stdout);
    let width = size.map_or(80, |(terminal_size::Width(width), _)| width.into());
    stdout.is_terminal().then_some(width)
}

/// Prints a value as JSON.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Result<()> {
    line(serde_json::to_string_pretty(value).map_err(sheet::encoding)?);
    Ok(())
}

fn whole_lines(text: &str) {
    line(text.trim_end_matches('\n'));
}

/// Without what a terminal would obey: what machines and people are called may hold anything.
pub(super) fn plain(text: &str) -> String {
    let letters = text.chars();
    let letters = letters.map(|letter| if letter.is_control() { ' ' } else { letter });
    letters.collect::<String>().trim_end().to_owned()
}

/// In colour; a pipe and `NO_COLOR` take that away again.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints a line. A reader that has gone away is no error of ours.
pub(super) fn line(text: impl Display) {
    drop(writeln!(anstream::stdout(), "{text}"));
}

/// Prints a line to stderr.
pub(super) fn complain(text: &str) {
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// Says what ended the program, and who must act.
pub(super) fn error(error: &Error) {
    let whose = styled(WRONG, whose(error.kind()));
    complain(&format!("{whose}: {error}"));
}

/// Says what is wrong with the words of a command.
pub(super) fn misuse(text: &str) {
    complain(&format!("{}: {text}", styled(WRONG, "error")));
}

/// Who must act, in front of an error.
fn whose(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "error",
        Kind::Transient => "error (it may pass by itself)",
        Kind::Contract => "error (if no proxy answers in the service's place, update this program)",
    }
}

/// Prints a line that goes on below its own text, so many columns from the edge, where the terminal ends.
pub(super) fn hanging(text: &str, indent: usize) {
    line(match width() {
        Some(width) => wrapped("", &" ".repeat(indent), text, width),
        None => text.to_owned(),
    });
}

/// Prints how things were found, their texts below each other.
pub(super) fn findings<'a>(findings: impl Iterator<Item = &'a Finding> + Clone) {
    let names = findings.clone().map(|one| one.what.chars().count());
    let longest = names.max().unwrap_or_default().clamp(32, 40);
    for one in findings {
        finding(one, longest);
    }
}

fn finding(finding: &Finding, longest: usize) {
    let (word, style) = match finding.found {
        Found::Ok => ("ok", WELL),
        Found::Note => ("note", WORTH_KNOWING),
        Found::Bad => ("BAD", WRONG),
    };
    let verdict = styled(style, &format!("{word:<5}"));
    let head = format!("{word:<5} {:<longest$}", finding.what);
    let shown = told(&head, &finding.text, width());
    line(shown.replacen(&format!("{word:<5}"), &verdict, 1));
}

/// Prints a name, or what else stands in front, and a text beside it.
pub(super) fn item(head: &str, text: &str) {
    line(told(head, text, width()));
}

/// Prints a sentence about the thing above it.
pub(super) fn sentence(text: &str) {
    line(match width() {
        Some(width) => wrapped("  ", "    ", text, width),
        None => format!("  {text}"),
    });
}

/// A head and its text: in one line where that has room, else the text goes on below itself.
fn told(head: &str, text: &str, width: Option<usize>) -> String {
    let whole = format!("{head} {text}");
    let whole = whole.trim_end();
    match width {
        Some(width) if whole.chars().count() > width => {
            if width >= ROOMY {
                let indent = " ".repeat(head.chars().count() + 1);
                wrapped(&format!("{head} "), &indent, text, width)
            } else {
                let text = wrapped("      ", "      ", text, width);
                format!("{}\n{text}", head.trim_end())
            }
        }
        _ => whole.to_owned(),
    }
}

fn wrapped(first: &str, others: &str, text: &str, width: usize) -> String {
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(others)
        .break_words(false);
    textwrap::fill(text, options)
}

/// What runs left behind that were asked to stop.
#[derive(Default)]
pub(super) struct Saved {
    landed: u64,
    waiting: u64,
    /// Streams that have not read all.
    behind: BTreeSet<StreamKey>,
}

impl Saved {
    pub(super) fn of(reports: &[Report]) -> Self {
        let mut saved = Self::default();
        saved.add(reports);
        saved
    }

    /// Takes in what further runs did.
    pub(super) fn add(&mut self, reports: &[Report]) {
        for report in reports {
            self.landed += report.counts.landed;
            self.waiting += report.counts.waiting;
            match report.outcome {
                Outcome::UpToDate => self.behind.remove(&report.key),
                Outcome::Behind | Outcome::Failed => self.behind.insert(report.key.clone()),
                _ => false,
            };
        }
    }
}

impl Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "stopped as asked: {} landed",
            counted(self.landed, "row")
        )?;
        if self.waiting > 0 {
            let waiting = counted(self.waiting, "row");
            write!(f, ", {waiting} saved in the outbox")?;
        }
        f.write_str(", and each position behind them is saved")?;
        match self.behind.len() as u64 {
            0 => f.write_str("; nothing was cut short"),
            some => write!(
                f,
                "; the next run goes on with {} from there",
                counted(some, "stream")
            ),
        }
    }
}

/// `eset.detections        2 pages     1,243 rows   in 3.1 s   up to date`.
fn described(report: &Report) -> String {
    let counts = &report.counts;
    let state = match report.outcome {
        Outcome::Running => "…".to_owned(),
        Outcome::UpToDate if counts.waiting > 0 => {
            format!("all is read in {:.1} s", report.seconds)
        }
        Outcome::UpToDate => format!("up to date in {:.1} s", report.seconds),
        Outcome::Behind => report
            .reason
            .clone()
            .unwrap_or_else(|| "time is up; the next run goes on".to_owned()),
        Outcome::NotDue => "not due yet".to_owned(),
        Outcome::Busy => reason("left to another run", report),
        Outcome::Paused => "paused; `cursor resume` ends that".to_owned(),
        Outcome::Off => "not offered by this tenant".to_owned(),
        Outcome::Failed => reason("failed", report),
    };
    let waits = match (counts.waiting, &report.waits_for) {
        (0, _) => String::new(),
        (rows, why) => format!(
            "; {} {} in the outbox: {}",
            counted(rows, "row"),
            if rows == 1 { "waits" } else { "wait" },
            why.as_deref().unwrap_or("the sink takes nothing")
        ),
    };
    format!(
        "{:<36} {:>6} {:<5} {:>9} {:<4}  {state}{waits}",
        named(&report.key),
        grouped(report.pages),
        noun(report.pages, "page"),
        grouped(counts.landed),
        noun(counts.landed, "row"),
    )
}

fn reason(what: &str, report: &Report) -> String {
    match &report.reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}

/// A stream's name, with that of its connection when there may be several.
pub(super) fn named(key: &StreamKey) -> String {
    if key.connection == crate::config::DEFAULT_CONNECTION {
        key.stream.clone()
    } else {
        key.to_string()
    }
}

/// What runs did.
const REPORT_COLUMNS: [SheetColumn<Report>; 19] = [
    SheetColumn::data("connection"),
    SheetColumn::text("stream", "stream", |report| named(&report.key)),
    SheetColumn::data("outcome"),
    SheetColumn::data("began"),
    SheetColumn::data("seconds"),
    SheetColumn::number("pages", "pages", |report| grouped(report.pages)),
    SheetColumn::number("rows", "landed", |report| grouped(report.counts.landed)),
    SheetColumn::number("waiting", "waiting", |report| {
        grouped(report.counts.waiting)
    }),
    SheetColumn::number("duplicates dropped", "duplicate", |report| {
        grouped(report.counts.duplicate)
    }),
    SheetColumn::number("rejected", "dead", |report| grouped(report.counts.dead)),
    SheetColumn::number("bytes", "bytes", |report| {
        HumanBytes(report.bytes).to_string()
    }),
    SheetColumn::number("lag", "lagSeconds", |report| {
        report.lag_seconds.map_or("-".to_owned(), span)
    }),
    SheetColumn::data("pulled"),
    SheetColumn::data("filtered"),
    SheetColumn::data("unchanged"),
    SheetColumn::data("gone"),
    SheetColumn::data("again"),
    SheetColumn::data("waitsFor"),
    SheetColumn::data("reason"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_below_itself_where_the_terminal_ends() {
        let head = format!("{:<38}", "BAD   ESET_REGION");
        let text = "is `mars`; it must be `eu`, `us`, `jpn`, `ca`, `de`: and so on and on and on";
        assert_eq!(told(&head, text, None), format!("{head} {text}"));
        let wide = told(&head, text, Some(100));
        assert_eq!(wide.lines().count(), 2, "{wide}");
        let below = wide.lines().nth(1).unwrap();
        assert!(below.starts_with(&" ".repeat(39)), "{wide}");
        let narrow = told(&head, text, Some(60));
        let mut lines = narrow.lines();
        assert_eq!(lines.next(), Some("BAD   ESET_REGION"));
        assert!(lines.all(|line| line.starts_with("      ") && line.len() <= 60));
    }

    #[test]
    fn one_page_is_no_pages() {
        let key = StreamKey::new("default", "eset.detections");
        let mut report = Report::new(key, chrono::DateTime::UNIX_EPOCH);
        report.outcome = Outcome::UpToDate;
        (report.pages, report.counts.landed, report.counts.waiting) = (1, 1, 1);
        let one = described(&report);
        assert!(one.contains(" 1 page ") && one.contains(" 1 row "), "{one}");
        assert!(one.contains("1 row waits"), "{one}");
        (report.pages, report.counts.landed, report.counts.waiting) = (2, 2000, 2);
        let many = described(&report);
        assert!(
            many.contains(" 2 pages ") && many.contains(" 2,000 rows "),
            "{many}"
        );
        assert_eq!(one.find("all is read"), many.find("all is read"));
    }

    #[test]
    fn who_must_act_is_never_told_to_report_what_a_service_does() {
        for kind in [Kind::Config, Kind::Transient, Kind::Contract] {
            assert!(!whose(kind).contains("report"), "{kind}");
        }
        assert!(whose(Kind::Contract).contains("update"));
    }
}
