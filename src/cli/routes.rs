//! `routes`: what has to be there for `ROUTES`.

mod arm;

use serde::Serialize;

use super::screen::{self, Screen, SheetColumn};
use arm::TablePlan;

use crate::{
    app::RouteTable,
    config::{Route, Settings, TimeGenerated},
    error::{Error, Result},
    source::endpoints,
};

const HUNTING: &str = "defender.hunting.";

#[derive(clap::Subcommand)]
pub(super) enum RoutesCommand {
    /// Print the tables and data collection rules of `ROUTES` as an ARM template
    Arm {
        /// Every table of advanced hunting as well, as `DeviceEvents_CL` and so on
        #[arg(long)]
        all_hunting: bool,
        /// Plan of the tables of the streams that are named; `auxiliary` is the data lake
        #[arg(long, value_enum, requires = "streams")]
        plan: Option<TablePlan>,
        /// The streams whose tables have that plan
        #[arg(value_name = "STREAM", requires = "plan")]
        streams: Vec<String>,
    },
}

/// Stream with a table of its own, in a list.
#[derive(Serialize)]
struct RoutedStream<'a> {
    stream: &'a str,
    table: &'a str,
    columns: usize,
}

/// Of such a stream, in a list.
fn routed_columns<'a>() -> [SheetColumn<RoutedStream<'a>>; 3] {
    [
        SheetColumn::text("stream", "stream", |one| one.stream.to_owned()),
        SheetColumn::text("table", "table", |one| one.table.to_owned()),
        SheetColumn::number("columns", "columns", |one| one.columns.to_string()),
    ]
}

pub(super) fn routes(
    command: &RoutesCommand,
    mut settings: Settings,
    screen: Screen,
) -> Result<()> {
    let RoutesCommand::Arm {
        all_hunting,
        plan,
        streams,
    } = command;
    let plan = plan.unwrap_or(TablePlan::Analytics);
    if plan == TablePlan::Auxiliary && settings.run.time_generated == TimeGenerated::Event {
        return Err(Error::config(
            "`TIME_GENERATED=event` sends hours at once, and a table of the data lake takes 30 minutes \
             in a call: leave it at `ingestion`; `eventTime` holds when it happened",
        ));
    }
    add_hunting(&mut settings.routes, |stream| {
        *all_hunting || streams.iter().any(|named| named == stream)
    });
    let own = |route: &&Route| !route.is_shared();
    let targets: Vec<(&str, &str)> = settings
        .routes
        .iter()
        .filter(own)
        .map(|route| (route.stream.as_str(), route.table.as_str()))
        .collect();
    if targets.is_empty() {
        return Err(Error::config(
            "`ROUTES` names no table of its own: set it, such as to \
             `defender.machines=Custom-DefenderMachines_CL`, or add `--all-hunting`",
        ));
    }
    let mut planned = Vec::new();
    for stream in streams {
        let target = targets.iter().find(|(routed, _)| routed == stream);
        let (_, table) = target.ok_or_else(|| {
            Error::config(format!(
                "`ROUTES` sends `{stream}` to no table of its own: the plan of a table is for all that is in it"
            ))
        })?;
        planned.push(*table);
    }
    let mut tables = RouteTable::of(&settings)?.tables().clone();
    tables.retain(|name, _| targets.iter().any(|(_, table)| table == name));
    // A template is JSON and nothing else; of the list people and spreadsheets can ask.
    if screen.is_chosen() && !screen.is_json() {
        let routed = targets.iter().map(|(stream, table)| RoutedStream {
            stream,
            table,
            columns: tables.get(*table).map_or(0, |columns| columns.len()),
        });
        let routed: Vec<_> = routed.collect();
        return screen.list(&routed_columns(), &routed, "");
    }
    screen::json(&arm::template(&tables, &targets, plan, &planned))?;
    screen.note(format!(
        "deployed, its output `ROUTES` is the value to set:\n{}",
        arm::setting(&tables, &targets)
    ));
    if plan != TablePlan::Analytics {
        screen.note(format!(
            "alerts, rules and hunting do not see {}: searches alone do",
            planned.join(", ")
        ));
    }
    Ok(())
}

/// Routes for the wanted tables of hunting that have none.
fn add_hunting(routes: &mut Vec<Route>, wanted: impl Fn(&str) -> bool) {
    for endpoint in endpoints() {
        let Some(name) = endpoint.stream.strip_prefix(HUNTING) else {
            continue;
        };
        if wanted(endpoint.stream) && !routes.iter().any(|route| endpoint.is_named(&route.stream)) {
            routes.push(Route {
                stream: endpoint.stream.to_owned(),
                table: format!("{name}_CL"),
                dcr: None,
                endpoint: None,
                dcr_stream: format!("Custom-{name}_CL"),
            });
        }
    }
}
