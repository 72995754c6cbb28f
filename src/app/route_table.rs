//! `ROUTES` → the table of each stream, and what its rows look like.

use std::collections::BTreeMap;

use crate::{
    config::{Route, Settings},
    core::{
        mapping::{columns::Column, layout::Layout},
        protocol::endpoint::Endpoint,
    },
    error::{Error, Result},
    source::{endpoints, switched_on},
};

/// The columns of the tables that `ROUTES` adds, by their names.
pub type Tables = BTreeMap<String, &'static [Column]>;

/// The routes, held against the streams that there are.
#[derive(Debug)]
pub struct RouteTable<'s> {
    routes: &'s [Route],
    tables: Tables,
}

impl<'s> RouteTable<'s> {
    /// Each route and each event table must name what there is, and streams of different columns need tables of their own.
    pub fn of(settings: &'s Settings) -> Result<Self> {
        let used = used(settings)?;
        let mut tables: BTreeMap<&str, (&str, Layout)> = BTreeMap::new();
        for route in &settings.routes {
            let mut meant: Vec<&'static Endpoint> = used.clone();
            // Of a stream that nobody reads the first API counts.
            meant.extend(endpoints());
            meant.retain(|endpoint| endpoint.is_named(&route.stream));
            let in_use = used
                .iter()
                .filter(|one| one.is_named(&route.stream))
                .count();
            meant.truncate(in_use.max(1));
            if meant.is_empty() {
                return Err(unknown(&route.stream));
            }
            for endpoint in meant {
                let layout = layout(route, endpoint);
                if route.is_shared() && route.table != endpoint.table.name {
                    return Err(Error::config(format!(
                        "`ROUTES` sends `{}` to `{}`, which has other columns: name a table of its \
                         own, or leave it to `{}`",
                        route.stream, route.table, endpoint.table.name
                    )));
                }
                let (other, there) = tables
                    .entry(&route.table)
                    .or_insert((&route.stream, layout));
                if there.columns != layout.columns {
                    return Err(Error::config(format!(
                        "`ROUTES` sends `{other}` and `{}` to `{}`, and they have different columns: \
                         give each a table of its own, and let all connections read it from one API",
                        route.stream, route.table
                    )));
                }
            }
        }
        let tables = tables.into_iter();
        Ok(Self {
            routes: &settings.routes,
            tables: tables
                .map(|(name, (_, layout))| (name.to_owned(), layout.columns))
                .collect(),
        })
    }

    /// The table of a stream's rows, and what they look like.
    pub fn table(&self, endpoint: &Endpoint) -> (String, Layout) {
        let route = self
            .routes
            .iter()
            .find(|one| endpoint.is_named(&one.stream));
        match route {
            None => (endpoint.table.name.to_owned(), Layout::shared(endpoint)),
            Some(route) => (route.table.clone(), layout(route, endpoint)),
        }
    }

    /// The tables that the routes name.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }
}

fn unknown(stream: &str) -> Error {
    let mut known: Vec<&str> = endpoints().map(|endpoint| endpoint.stream).collect();
    known.dedup();
    Error::config(format!(
        "`ROUTES` names the stream `{stream}`, which there is not; there are {}",
        known.join(", ")
    ))
}

fn layout(route: &Route, endpoint: &Endpoint) -> Layout {
    if route.is_shared() {
        Layout::shared(endpoint)
    } else {
        Layout::own(endpoint)
    }
}

/// The endpoints that the connections read.
fn used(settings: &Settings) -> Result<Vec<&'static Endpoint>> {
    let mut used = Vec::new();
    for connection in &settings.connections {
        used.extend(switched_on(connection.source.kind(), &connection.choices)?);
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Environment, Mode},
        core::mapping::columns::{DETECTIONS, Type},
    };

    fn settings(routes: &str, more: &[(&str, &str)]) -> Settings {
        let mut all = vec![("ROUTES", routes), ("DEFENDER_TENANT_ID", "t")];
        all.extend_from_slice(more);
        let environment: Environment = all.into_iter().collect();
        Settings::load(&environment, Mode::Local).unwrap()
    }

    fn refusal(routes: &str, more: &[(&str, &str)]) -> String {
        RouteTable::of(&settings(routes, more))
            .unwrap_err()
            .to_string()
    }

    fn kind(routes: &str, more: &[(&str, &str)], column: &str) -> Option<Type> {
        let settings = settings(routes, more);
        let tables = RouteTable::of(&settings).unwrap().tables;
        let column = tables["A_CL"].iter().find(|one| one.name == column);
        column.map(|column| column.kind)
    }

    #[test]
    fn a_table_of_its_own_has_the_columns_of_the_api_that_is_read() {
        let alerts = "defender.alerts=Custom-A_CL";
        assert_eq!(kind(alerts, &[], "incidentId"), Some(Type::String));
        let mde = [("DEFENDER_ALERTS_API", "mde")];
        assert_eq!(kind(alerts, &mde, "incidentId"), Some(Type::Long));
        let events = "defender.hunting.DeviceEvents=Custom-A_CL";
        assert_eq!(kind(events, &[], "FileSize"), Some(Type::Long));
    }

    #[test]
    fn rows_of_eset_keep_the_shared_columns_in_a_table_of_their_own() {
        let settings = settings(
            "eset.detections=Custom-A_CL,eset.cloud-office=Custom-A_CL",
            &[],
        );
        let routed = RouteTable::of(&settings).unwrap();
        assert_eq!(routed.tables["A_CL"], DETECTIONS.columns());
    }

    #[test]
    fn what_can_not_share_a_table_is_refused() {
        let strange = refusal("defender.nothing=Custom-A_CL", &[]);
        assert!(
            strange.contains("`defender.nothing`, which there is not"),
            "{strange}"
        );
        let both = "defender.machines=Custom-A_CL,defender.alerts=Custom-A_CL";
        let clash = refusal(both, &[]);
        assert!(
            clash.contains("`defender.machines` and `defender.alerts`"),
            "{clash}"
        );
        let ours = refusal("defender.alerts=Custom-IntegrationTableIncidents_CL", &[]);
        assert!(ours.contains("has other columns"), "{ours}");
        let two = r#"[{"name":"a","source":"defender","settings":{"DEFENDER_ALERTS_API":"mde"}},
                      {"name":"b","source":"defender","settings":{}}]"#;
        let apis = refusal("defender.alerts=Custom-A_CL", &[("CONNECTIONS", two)]);
        assert!(apis.contains("from one API"), "{apis}");
    }
}
