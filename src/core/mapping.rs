//! Records → rows: columns, rules, filters, and the batch that rows are gathered in.

pub mod assets;
pub mod batch;
pub mod columns;
pub mod enrichment;
pub mod filter;
pub mod from_list;
pub mod layout;
pub mod mapper;
pub mod original;
pub mod raised;
pub mod receipt;
pub mod row;
pub mod rule;
pub mod schema;
pub mod shorten;
pub mod wanted;
pub mod workset;
