//! The tables of the repository's schema files: the sources' own columns and types.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use super::{
    columns::{ADDED, Column, TIME, Type, safe_name},
    rule::{As, Rule, or_take, take},
};
use crate::core::position::record_key::capitalised;

/// The tables of advanced hunting, and the records of the lists.
const FILES: [&str; 2] = [
    include_str!("../../../schemas/defender-xdr.json"),
    include_str!("../../../schemas/defender-records.json"),
];

#[derive(Deserialize)]
struct File {
    tables: BTreeMap<String, SchemaEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SchemaEntry {
    product: String,
    row_id: Vec<String>,
    capitals: bool,
    columns: Vec<String>,
}

/// One table of a source.
#[derive(Debug)]
pub struct Schema {
    /// Its name: `DeviceEvents`, `machines`.
    pub name: &'static str,
    /// What has to be deployed for a hunting table to have rows; empty for other records.
    pub product: &'static str,
    /// The columns that together identify a row of a hunting table.
    pub row_id: &'static [&'static str],
    /// The members, in the order of the reference.
    pub members: &'static [&'static str],
    /// The columns of a table of its own: [`TIME`], the source's, then [`ADDED`].
    pub columns: &'static [Column],
    /// Which member goes to which of them.
    pub rules: &'static [Rule],
}

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    // The files are a part of the program, and a test reads them.
    let tables = FILES
        .iter()
        .filter_map(|text| serde_json::from_str::<File>(text).ok())
        .flat_map(|file| file.tables);
    tables.map(|(name, entry)| schema(name, entry)).collect()
});

/// Every table of the schema files.
pub fn schemas() -> &'static [Schema] {
    &SCHEMAS
}

/// The table of this name.
pub fn named(name: &str) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|schema| schema.name == name)
}

/// Text that lives as long as the program, as everything about a stream does. It is made once.
fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn schema(name: String, entry: SchemaEntry) -> Schema {
    let mut columns = vec![TIME];
    let mut taken: Vec<&str> = [TIME]
        .iter()
        .chain(ADDED)
        .map(|column| column.name)
        .collect();
    let (mut members, mut rules) = (Vec::new(), Vec::new());
    for text in entry.columns {
        let (member, kind) = text.split_once(':').unwrap_or((&text, "string"));
        let (kind, how) = form(kind);
        let column = kept(safe_name(member, &taken));
        let member = kept(member.to_owned());
        taken.push(column);
        members.push(member);
        columns.push(Column { name: column, kind });
        rules.push(take(member, column, how));
        if entry.capitals {
            rules.push(or_take(kept(capitalised(member)), column, how));
        }
    }
    columns.extend_from_slice(ADDED);
    Schema {
        name: kept(name),
        product: kept(entry.product),
        row_id: entry
            .row_id
            .into_iter()
            .map(kept)
            .collect::<Vec<_>>()
            .leak(),
        members: members.leak(),
        columns: columns.leak(),
        rules: rules.leak(),
    }
}

/// The type of a column, and how a member becomes its value, by the files' word for it.
fn form(word: &str) -> (Type, As) {
    match word {
        "datetime" => (Type::Datetime, As::Time),
        "bare" => (Type::Datetime, As::BareTime),
        "long" => (Type::Long, As::Long),
        "int" => (Type::Int, As::Integer),
        "real" => (Type::Real, As::Real),
        "bool" => (Type::Boolean, As::Boolean),
        "dynamic" => (Type::Dynamic, As::Json),
        _ => (Type::String, As::Verbatim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_whole() {
        let counts = FILES.map(|text| {
            let file: File = serde_json::from_str(text).unwrap();
            file.tables.len()
        });
        assert_eq!(counts, [21, 8]);
        assert_eq!(schemas().len(), 29);
        for text in FILES {
            let file: File = serde_json::from_str(text).unwrap();
            for (name, entry) in file.tables {
                let members: Vec<&str> = entry
                    .columns
                    .iter()
                    .map(|column| column.split(':').next().unwrap())
                    .collect();
                assert_eq!(named(&name).unwrap().members, members, "{name}");
                for column in &entry.columns {
                    let word = column.split_once(':').map_or("string", |(_, word)| word);
                    let known = "string datetime bare long int real bool dynamic";
                    assert!(known.split(' ').any(|known| known == word), "{column}");
                }
            }
        }
    }

    #[test]
    fn every_column_of_every_schema_is_one_the_service_takes() {
        for schema in schemas() {
            let mut before: Vec<&str> = Vec::new();
            for column in schema.columns {
                let name = column.name;
                assert_eq!(safe_name(name, &before), name, "in {}", schema.name);
                assert!(name.len() <= 45, "{name} is too long");
                assert!(name.starts_with(|first: char| first.is_ascii_alphabetic()));
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
                before.push(name);
            }
            assert!(schema.columns.len() <= 500, "{}", schema.name);
        }
    }

    #[test]
    fn names_that_are_taken_get_a_suffix() {
        let column = |schema: &str, member: &str| {
            let schema = named(schema).unwrap();
            let at = schema.members.iter().position(|one| *one == member);
            schema.columns[1 + at.unwrap()].name
        };
        assert_eq!(column("UrlClickEvents", "TenantId"), "TenantId_");
        assert_eq!(column("UrlClickEvents", "Type"), "Type_");
        assert_eq!(column("UrlClickEvents", "SourceSystem"), "SourceSystem_");
        assert_eq!(column("UrlClickEvents", "TimeGenerated"), "TimeGenerated_");
        assert_eq!(column("DeviceProcessEvents", "LogonId"), "LogonId");
        assert_eq!(column("DeviceProcessEvents", "LogonID"), "LogonID_");
        assert_eq!(
            column("DeviceEvents", "AdditionalFields"),
            "AdditionalFields_"
        );
        assert_eq!(column("machines", "id"), "id_");
        assert_eq!(column("alerts", "title"), "title_");
        assert_eq!(column("alerts", "category"), "category");
    }
}
