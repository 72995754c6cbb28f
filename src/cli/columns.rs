//! `columns`: which member of each stream goes to which column, as a page of Markdown.

use serde::Serialize;

use super::screen::{self, Screen, SheetColumn};
use crate::{
    core::{
        mapping::{
            columns::ADDED,
            from_list::{FillWith, FromList},
            rule::{As, Rule, To},
            schema::{self, Schema},
        },
        protocol::endpoint::{Endpoint, TimeFilter},
    },
    error::Result,
    source::{defender::hunting::why_left, endpoints},
};

const HEAD: &str = "\
# Columns

Which member of a record goes to which column, stream by stream. Printed by `sentinel-connector columns`
from the tables that the connector works by; a test holds this page current.

Every row also has `TimeGenerated`, ";

const TAIL: &str = "What no column takes is in
`additionalFields`, and so is what a column holds in another form than the record; a record can be rebuilt
from its row.

A column that is filled *as well* has its value from the first element of that kind in a list, which stays
whole where it goes. Columns that tell of one thing (a device, a user, a process, a file) are filled from one
element, where no other member fills one of them; a kind with *else* counts where there is none of those above it.

A stream that `ROUTES` sends to a table of its own has the columns that are listed last: its source's own,
with those of every row. Streams of ESET keep the columns of the shared tables.
";

/// Member of a stream's records, and the column that it goes to.
#[derive(Serialize)]
struct MemberColumn {
    stream: &'static str,
    table: &'static str,
    /// Empty where the value is always the same.
    member: String,
    column: &'static str,
    /// How it gets there, where it is not taken as it is.
    #[serde(rename = "as")]
    how: String,
}

/// Of a member, in a list.
const MEMBERS: [SheetColumn<MemberColumn>; 5] = [
    SheetColumn::data("stream"),
    SheetColumn::data("table"),
    SheetColumn::data("member"),
    SheetColumn::data("column"),
    SheetColumn::data("as"),
];

pub(super) fn columns(screen: Screen) -> Result<()> {
    if screen.is_for_people() {
        screen::line(page().trim_end());
        return Ok(());
    }
    let all: Vec<MemberColumn> = endpoints().flat_map(members).collect();
    screen.data(&MEMBERS, &all).map(drop)
}

fn page() -> String {
    let added: Vec<String> = ADDED.iter().map(|one| format!("`{}`", one.name)).collect();
    let mut page = format!("{HEAD}{}.\n{TAIL}", added.join(", "));
    for endpoint in endpoints() {
        section(&mut page, endpoint);
    }
    page
}

/// What becomes of the members of a stream's records.
fn members(endpoint: &'static Endpoint) -> Vec<MemberColumn> {
    let mut all = Members {
        endpoint,
        rows: Vec::new(),
    };
    all.rules(endpoint.rules, "");
    if let Some(picks) = &endpoint.from_list {
        all.picked(picks);
    }
    for gather in endpoint.collect {
        all.add(
            gather.path.join("."),
            gather.column,
            "as well, each once".to_owned(),
        );
    }
    for (column, value) in endpoint.constants {
        all.add(String::new(), column, format!("always {value}"));
    }
    if let Some(better) = &endpoint.from_list.and_then(|picks| picks.better) {
        let member = ["evidence", better.kind, better.value].join(".");
        let how = format!("instead, where its `{}` is the same user", better.same);
        all.add(member, better.column, how);
    }
    all.rows
}

/// The members of a stream, as they are found.
struct Members {
    endpoint: &'static Endpoint,
    rows: Vec<MemberColumn>,
}

fn section(page: &mut String, endpoint: &'static Endpoint) {
    let Endpoint { stream, list, .. } = endpoint;
    let path = if matches!(list.filter, TimeFilter::Kql(_)) {
        "`runHuntingQuery`".to_owned()
    } else {
        let more = list.parameters.iter().find(|(name, _)| *name == "$expand");
        let more = more.map_or(String::new(), |(name, value)| format!("?{name}={value}"));
        format!("`{}{more}`", list.path)
    };
    page.extend([format!(
        "\n## {stream}\n\n{path} → `{}`\n\n| member | column | as |\n|---|---|---|\n",
        endpoint.table.name
    )]);
    for row in members(endpoint) {
        let MemberColumn {
            member,
            column,
            how,
            ..
        } = row;
        let member = if member.is_empty() {
            String::new()
        } else {
            format!("`{member}` ")
        };
        page.extend([format!("| {member}| `{column}` | {how} |\n")]);
    }
    let Some(schema) = endpoint.schema.and_then(schema::named) else {
        return;
    };
    if !schema.product.is_empty() {
        left(page, endpoint, schema);
    }
    let own = &schema.columns[1..=schema.members.len()];
    let own = own.iter().zip(schema.members).map(|(column, member)| {
        let from = if column.name == *member {
            String::new()
        } else {
            format!(" (from `{member}`)")
        };
        format!("`{}` {}{from}", column.name, column.kind.name())
    });
    let own: Vec<String> = own.collect();
    page.extend([format!("\nOf its own: {}.\n", own.join(", "))]);
}

/// Which columns of a table no column of ours takes, and why.
fn left(page: &mut String, endpoint: &Endpoint, schema: &Schema) {
    let is_taken = |member: &&&str| endpoint.rules.iter().any(|rule| rule.member == **member);
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for member in schema.members.iter().filter(|member| !is_taken(member)) {
        let (why, name) = (why_left(member), format!("`{member}`"));
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, members)) => members.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    if !reasons.is_empty() {
        page.push_str("\nStays in `additionalFields`:\n\n");
    }
    for (why, members) in reasons {
        page.extend([format!("- {} ({why})\n", members.join(", "))]);
    }
}

impl Members {
    fn add(&mut self, member: String, column: &'static str, how: String) {
        let Endpoint { stream, table, .. } = self.endpoint;
        self.rows.push(MemberColumn {
            stream,
            table: table.name,
            member,
            column,
            how,
        });
    }

    fn rules(&mut self, all: &'static [Rule], path: &str) {
        for rule in all {
            let member = format!("{path}{}", rule.member);
            match rule.to {
                To::Column(column, how) => {
                    let mut how = said(how);
                    if rule.alternate {
                        how.push_str(if how.is_empty() { "else" } else { ", else" });
                    }
                    self.add(member, column, how);
                }
                To::JsonObject { rest, rules } => {
                    self.rules(rules, &format!("{member}."));
                    if let Some(column) = rest {
                        self.add(member, column, "what is left of it".to_owned());
                    }
                }
            }
        }
    }

    /// What the elements of a list fill.
    fn picked(&mut self, picks: &FromList) {
        for thing in picks.things {
            for (at, kind) in thing.iter().enumerate() {
                for fill in kind.fills {
                    let otherwise = if at == 0 { "" } else { ", else" };
                    let (member, how) = taken(fill.with);
                    let path = [picks.list, kind.name, member].map(|name| format!(".{name}"));
                    let path = path.concat();
                    let path = path.trim_matches('.').to_owned();
                    self.add(path, fill.column, format!("as well{otherwise}{how}"));
                }
            }
        }
    }
}

/// Which member of an element a column gets, and how.
fn taken(with: FillWith) -> (&'static str, String) {
    match with {
        FillWith::Text([first]) => (first, String::new()),
        FillWith::Text(paths) => {
            let others: Vec<String> = paths
                .iter()
                .skip(1)
                .map(|path| format!("`{path}`"))
                .collect();
            let first = paths.first().copied().unwrap_or_default();
            (first, format!("; or {}", others.join(", ")))
        }
        FillWith::First(path) => (path, ": the first".to_owned()),
        FillWith::Integer(path) => (path, String::new()),
        FillWith::File(path) => (path, ": `filePath` and `fileName`".to_owned()),
        FillWith::Account(path) => (
            path,
            ": `userPrincipalName`, or `domainName` and `accountName`".to_owned(),
        ),
        FillWith::Remote(path) => (path, ": as `remoteIpAddress`, a public one".to_owned()),
        FillWith::Always(text) => ("", format!(": `{text}`")),
    }
}

/// How a member becomes the column's value, when it is not taken as it is.
fn said(how: As) -> String {
    match how {
        As::Text
        | As::Verbatim
        | As::Name
        | As::Json
        | As::Integer
        | As::Long
        | As::Real
        | As::Boolean
        | As::Time => String::new(),
        As::NumberText => "text".to_owned(),
        As::TextInteger => "number".to_owned(),
        As::BareTime => "with `T` and `Z`".to_owned(),
        As::Renamed(names) => {
            let names: Vec<String> = names
                .iter()
                .map(|(theirs, ours)| format!("`{theirs}` as `{ours}`"))
                .collect();
            names.join(", ")
        }
        As::Inside(name) => format!("inside `{name}`"),
        As::Member(name) => format!("as its `{name}`"),
        As::Texts(more) => format!("each text once, with those of `{more}`"),
        As::Account(domain) => format!("behind `{domain}` and `\\`"),
        As::Path(path) => {
            let condition = match (path.with, path.without) {
                ("", "") => String::new(),
                ("", other) => format!(", where there is no `{other}`"),
                (other, _) => format!(", where there is `{other}`"),
            };
            format!("with `{}`{condition}", path.file)
        }
        As::Is(wanted) => format!("whether it is `{wanted}`"),
    }
}
