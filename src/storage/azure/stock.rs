//! The tables that the stock ESET connector has left in an account: read, never written.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::{
    AzureStorage,
    auth::Kind,
    service::Service,
    table::{Query, json_call},
};
use crate::{
    error::{Error, Result},
    import::{Stored, is_stock_table},
};

impl AzureStorage {
    /// What the stock connector has saved, by table. Its login tokens are not read.
    pub async fn stock_state(&self) -> Result<Vec<Stored>> {
        let mut found = Vec::new();
        for table in self.tables().await? {
            if !is_stock_table(&table) {
                continue;
            }
            let entities = self.table(&table).query(&Query::default()).await?;
            found.extend(entities.into_iter().map(|properties| Stored {
                table: table.clone(),
                properties,
            }));
        }
        Ok(found)
    }

    /// The names of all tables, page by page
    /// (learn.microsoft.com/rest/api/storageservices/query-tables).
    async fn tables(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct StockPage {
            value: Vec<NamedTable>,
        }
        #[derive(Deserialize)]
        struct NamedTable {
            #[serde(rename = "TableName")]
            name: String,
        }
        let service = Service::new(Kind::Table, &self.account, &self.wire);
        let unusual = |what: String| Error::contract(format!("{}: {what}", service.place()));
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut call = json_call(Method::GET, "/Tables".to_owned());
            if let Some(next) = &next {
                call = call.query("NextTableName", next);
            }
            let answer = service.ask(&call).await?;
            if answer.status != StatusCode::OK {
                return Err(unusual(answer.described()));
            }
            let page: StockPage = serde_json::from_slice(&answer.body).map_err(|error| {
                unusual(format!("no list of tables at column {}", error.column()))
            })?;
            names.extend(page.value.into_iter().map(|table| table.name));
            let after = answer.header("x-ms-continuation-NextTableName");
            match after.map(str::to_owned) {
                None => return Ok(names),
                after if after == next => {
                    return Err(unusual("the same page of tables came twice".to_owned()));
                }
                after => next = after,
            }
        }
    }
}
