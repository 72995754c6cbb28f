//! `schema`: the tables that this version writes, as JSON, or as the request that brings them up to it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::screen::{self, Screen, SheetColumn};
use crate::{
    core::mapping::columns::{Column, TABLES, Table},
    error::{Error, Result},
};

/// What Azure says of a table that its request body may say as well.
const OF_TABLE: [&str; 3] = ["plan", "retentionInDays", "totalRetentionInDays"];

/// That of a column.
const OF_COLUMN: [&str; 5] = ["name", "type", "displayName", "description", "dataTypeHint"];

/// What Azure alone says of a rule.
const NOT_OF_RULE: [&str; 5] = ["id", "name", "type", "etag", "systemData"];

/// What it alone says of a rule's properties.
const NOT_OF_RULE_PROPERTIES: [&str; 4] = [
    "immutableId",
    "provisioningState",
    "endpoints",
    "ingestionQuotas",
];

#[derive(clap::Args)]
pub(super) struct SchemaArguments {
    /// Print it as this
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = Form::Json)]
    form: Form,
    /// With az-rest: the table or data collection rule as `az rest` read it, `-` for standard input
    #[arg(long, value_name = "FILE")]
    onto: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Names and types of the columns, by table
    Json,
    /// The body that `az rest --method PUT` writes back: what is there, and the columns that are missing
    AzRest,
}

/// Column of a table, in a list.
#[derive(Serialize)]
struct TableColumn {
    table: &'static str,
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Of a column, in a list.
const COLUMNS: [SheetColumn<TableColumn>; 3] = [
    SheetColumn::text("table", "table", |column| column.table.to_owned()),
    SheetColumn::text("column", "name", |column| column.name.to_owned()),
    SheetColumn::text("type", "type", |column| column.kind.to_owned()),
];

/// Prints `{"<table>":[{"name":"<column>","type":"<type>"},…],…}`, columns in their order, which stays
/// what is printed where nobody asks for another form; or a body.
pub(super) fn schema(arguments: &SchemaArguments, screen: Screen) -> Result<()> {
    if arguments.form == Form::Json && arguments.onto.is_none() && screen.is_chosen() {
        let columns = TABLES.into_iter().flat_map(|table| {
            let columns = table.columns().iter();
            columns.map(|column| TableColumn {
                table: table.name,
                name: column.name,
                kind: column.kind.name(),
            })
        });
        let columns: Vec<TableColumn> = columns.collect();
        if screen.is_json() {
            return screen::json(&tables());
        }
        return screen.list(&COLUMNS, &columns, "");
    }
    let printed = match (arguments.form, &arguments.onto) {
        (Form::AzRest, Some(file)) => {
            let name = file.display();
            body(&read(file)?).map_err(|error| error.context(format!("`{name}`")))?
        }
        (Form::AzRest, None) => return Err(Error::config("`--as az-rest` takes `--onto FILE`")),
        (Form::Json, Some(_)) => return Err(Error::config("`--onto` goes with `--as az-rest`")),
        (Form::Json, None) => tables(),
    };
    screen::line(format!("{printed:#}"));
    Ok(())
}

fn read(file: &Path) -> Result<Value> {
    let mut text = String::new();
    let got = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(file).map(|read| text = read)
    };
    let name = file.display();
    got.map_err(|error| Error::config(format!("`{name}` can't be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::config(format!(
            "`{name}` is no JSON ({error}): save what `az rest` prints"
        ))
    })
}

fn tables() -> Value {
    TABLES
        .into_iter()
        .map(|table| {
            let columns: Value = table.columns().iter().map(described).collect();
            (table.name.to_owned(), columns)
        })
        .collect::<Map<_, _>>()
        .into()
}

fn described(column: &Column) -> Value {
    json!({ "name": column.name, "type": column.kind.name() })
}

/// The body for a table or a rule that is there.
fn body(there: &Value) -> Result<Value> {
    let properties = &there["properties"];
    if properties["streamDeclarations"].is_object() {
        return of_rule(there);
    }
    let name = properties["schema"]["name"].as_str().unwrap_or_default();
    match TABLES.into_iter().find(|table| table.name == name) {
        Some(table) => of_table(properties, table),
        None => Err(Error::config(
            "neither a table that this version writes nor a data collection rule: save what `az rest` \
             answers for one of them",
        )),
    }
}

fn of_table(there: &Value, table: &'static Table) -> Result<Value> {
    let kept = |of: &Value, names: &[&str]| -> Map<String, Value> {
        let members = names.iter().map(|name| (*name, &of[*name]));
        let members = members.filter(|(_, value)| !value.is_null());
        members
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    };
    let columns = there["schema"]["columns"].as_array();
    let columns = columns.into_iter().flatten();
    let columns: Vec<Value> = columns
        .map(|column| kept(column, &OF_COLUMN).into())
        .collect();
    let columns = merged(columns, table)?;
    let mut properties = kept(there, &OF_TABLE);
    let mut schema = kept(&there["schema"], &["displayName", "description"]);
    schema.insert("name".to_owned(), table.name.into());
    schema.insert("columns".to_owned(), columns.into());
    properties.insert("schema".to_owned(), schema.into());
    Ok(json!({ "properties": properties }))
}

fn of_rule(there: &Value) -> Result<Value> {
    let mut rule = there.clone();
    without(&mut rule, &NOT_OF_RULE);
    without(&mut rule["properties"], &NOT_OF_RULE_PROPERTIES);
    let mut known = false;
    for table in TABLES {
        let stream = format!("Custom-{}", table.name);
        let declared = &mut rule["properties"]["streamDeclarations"];
        if let Some(declared) = declared.get_mut(&stream) {
            let columns = declared["columns"].as_array().cloned();
            declared["columns"] = merged(columns.unwrap_or_default(), table)?.into();
            known = true;
        }
    }
    if known {
        Ok(rule)
    } else {
        let streams = TABLES.map(|table| format!("Custom-{}", table.name));
        Err(Error::config(format!(
            "the rule declares none of {}: it is another one's",
            streams.join(", ")
        )))
    }
}

/// The columns that are there, as they are, then those of the table that are missing.
fn merged(mut columns: Vec<Value>, table: &'static Table) -> Result<Vec<Value>> {
    let mut wrong = Vec::new();
    for column in table.columns() {
        let same = |text: &Value, other: &str| {
            let text = text.as_str();
            text.is_some_and(|text| text.eq_ignore_ascii_case(other))
        };
        match columns
            .iter()
            .find(|there| same(&there["name"], column.name))
        {
            None => columns.push(described(column)),
            Some(there) if !same(&there["type"], column.kind.name()) => wrong.push(format!(
                "`{}` is {} there and {} here",
                column.name,
                there["type"],
                column.kind.name()
            )),
            Some(_) => {}
        }
    }
    if wrong.is_empty() {
        return Ok(columns);
    }
    Err(Error::config(format!(
        "{} has columns of other types: {}; remove them from it first",
        table.name,
        wrong.join(", ")
    )))
}

fn without(value: &mut Value, names: &[&str]) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_there_in_its_place() {
        let printed = tables();
        for table in TABLES {
            let printed = printed[table.name].as_array().unwrap();
            let names: Vec<_> = printed.iter().map(|column| &column["name"]).collect();
            let expected: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            assert_eq!(names, expected);
            assert_eq!(
                printed[0],
                json!({ "name": "TimeGenerated", "type": "datetime" })
            );
        }
        assert_eq!(
            printed["IntegrationTable_CL"][4],
            json!({ "name": "detectionUuid", "type": "dynamic" })
        );
    }

    fn names(columns: &Value) -> Vec<&str> {
        let columns = columns.as_array().unwrap();
        columns
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_table_keeps_what_it_has_and_gets_what_is_missing() {
        let own = json!({
            "name": "owner_s", "type": "string", "description": "who looks after it",
        });
        let mut read = own.clone();
        read["isHidden"] = json!(false);
        let there = json!({
            "id": "/subscriptions/1/tables/IntegrationTable_CL",
            "properties": {
                "provisioningState": "Succeeded", "plan": "Analytics", "retentionInDays": 90,
                "schema": {
                    "name": "IntegrationTable_CL", "tableType": "CustomLog", "standardColumns": [],
                    "columns": [read, {"name": "TimeGenerated", "type": "dateTime"}],
                },
            },
        });
        let body = body(&there).unwrap();
        let properties = &body["properties"];
        let table = TABLES[0];
        assert_eq!(table.name, "IntegrationTable_CL");
        let mut expected = vec!["owner_s", "TimeGenerated"];
        expected.extend(table.columns().iter().skip(1).map(|column| column.name));
        assert_eq!(names(&properties["schema"]["columns"]), expected);
        assert_eq!(properties["schema"]["columns"][0], own);
        assert_eq!(properties["retentionInDays"], 90);
        let mut members: Vec<_> = properties.as_object().unwrap().keys().collect();
        members.sort_unstable();
        assert_eq!(members, ["plan", "retentionInDays", "schema"]);
        assert_eq!(body.as_object().unwrap().len(), 1);
    }

    #[test]
    fn a_rule_stays_as_it_is_but_for_its_columns() {
        let there = json!({
            "id": "/rule", "name": "rule", "type": "t", "etag": "e", "systemData": {},
            "location": "westeurope", "tags": {"team": "soc"},
            "properties": {
                "immutableId": "dcr-1", "provisioningState": "Succeeded",
                "streamDeclarations": {
                    "Custom-IntegrationTable_CL": {"columns": [{"name": "mine", "type": "string"}]},
                    "Custom-Other_CL": {"columns": [{"name": "a", "type": "string"}]},
                },
                "dataFlows": [{"streams": ["Custom-IntegrationTable_CL"]}],
            },
        });
        let body = body(&there).unwrap();
        let declared = &body["properties"]["streamDeclarations"];
        let mut expected = vec!["mine"];
        expected.extend(TABLES[0].columns().iter().map(|column| column.name));
        assert_eq!(
            names(&declared["Custom-IntegrationTable_CL"]["columns"]),
            expected
        );
        assert_eq!(names(&declared["Custom-Other_CL"]["columns"]), ["a"]);
        assert_eq!(
            body["properties"]["dataFlows"],
            there["properties"]["dataFlows"]
        );
        assert_eq!(body["tags"], there["tags"]);
        assert_eq!(body.get("etag"), None);
        assert_eq!(body["properties"].get("immutableId"), None);
    }

    #[test]
    fn what_can_not_be_brought_up_to_this_version_is_refused() {
        let table = |columns: Value| json!({"properties": {"schema": {"name": "IntegrationTable_CL", "columns": columns}}});
        let rule = json!({"properties": {"streamDeclarations": {"Custom-Other_CL": {}}}});
        for (there, words) in [
            (
                table(json!([{"name": "detectionUuid", "type": "string"}])),
                "`detectionUuid` is \"string\" there and dynamic here",
            ),
            (rule, "declares none of Custom-IntegrationTable_CL"),
            (json!({"error": {}}), "neither a table"),
            (json!([]), "neither a table"),
        ] {
            let error = body(&there).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
