//! `schema`: the tables that this version writes, as JSON.

use serde_json::{Map, Value, json};

use super::screen;
use crate::core::mapping::columns::TABLES;

/// Prints `{"<table>":[{"name":"<column>","type":"<type>"},…],…}`, columns in their order.
pub(super) fn schema() {
    screen::line(format!("{:#}", tables()));
}

fn tables() -> Value {
    TABLES
        .into_iter()
        .map(|table| {
            let columns: Value = table
                .columns()
                .iter()
                .map(|column| json!({ "name": column.name, "type": column.kind.name() }))
                .collect();
            (table.name.to_owned(), columns)
        })
        .collect::<Map<_, _>>()
        .into()
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
}
