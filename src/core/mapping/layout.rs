//! What the rows of a stream look like: the columns of their table, and how records fill them.

use super::{
    columns::Column,
    from_list::{CollectList, FromList},
    rule::Rule,
    schema,
};
use crate::core::protocol::endpoint::Endpoint;

/// The form of a stream's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The columns of the table.
    pub columns: &'static [Column],
    /// Which member goes to which column.
    pub rules: &'static [Rule],
    /// The same for what is looked up about a record.
    pub details: &'static [Rule],
    /// Columns that say the same in every row, as JSON, unless a record fills them.
    pub constants: &'static [(&'static str, &'static str)],
    /// Columns that an element of a list fills as well.
    pub from_list: Option<FromList>,
    /// Columns that all elements of a list fill as well.
    pub collect: &'static [CollectList],
}

impl Layout {
    /// Rows of one of the tables that all sources share.
    pub fn shared(endpoint: &Endpoint) -> Self {
        Self {
            columns: endpoint.table.columns(),
            rules: endpoint.rules,
            details: endpoint.details,
            constants: endpoint.constants,
            from_list: endpoint.from_list,
            collect: endpoint.collect,
        }
    }

    /// Rows of a table of the stream's own: with the source's columns and types where a schema file
    /// has them, else with those of the shared table.
    pub fn own(endpoint: &Endpoint) -> Self {
        match endpoint.schema.and_then(schema::named) {
            None => Self::shared(endpoint),
            Some(schema) => Self {
                columns: schema.columns,
                rules: schema.rules,
                details: &[],
                constants: &[],
                from_list: None,
                collect: &[],
            },
        }
    }

    /// The column of this name, in exactly this case.
    pub fn column(&self, name: &str) -> Option<Column> {
        self.columns.iter().find(|one| one.name == name).copied()
    }
}
