//! `routes`: what has to be there for `ROUTES`.

mod arm;

use super::screen;
use crate::{
    app::RouteTable,
    config::{Route, Settings},
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
    },
}

pub(super) fn routes(command: &RoutesCommand, mut settings: Settings) -> Result<()> {
    let RoutesCommand::Arm { all_hunting } = command;
    if *all_hunting {
        add_hunting(&mut settings.routes);
    }
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
    let mut tables = RouteTable::of(&settings)?.tables().clone();
    tables.retain(|name, _| targets.iter().any(|(_, table)| table == name));
    screen::line(format!("{:#}", arm::template(&tables, &targets)));
    screen::complain(&format!(
        "note: deployed, its output `ROUTES` is the value to set:\n{}",
        arm::setting(&tables, &targets)
    ));
    Ok(())
}

/// Routes for the tables of hunting that have none.
fn add_hunting(routes: &mut Vec<Route>) {
    for endpoint in endpoints() {
        let Some(name) = endpoint.stream.strip_prefix(HUNTING) else {
            continue;
        };
        if !routes.iter().any(|route| endpoint.is_named(&route.stream)) {
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
