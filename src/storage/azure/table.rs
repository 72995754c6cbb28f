//! A table of Table Storage: as much of its protocol as we need
//! (learn.microsoft.com/rest/api/storageservices/table-service-rest-api).

use std::time::Duration;

use http::{Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    account::Account,
    answer::Answer,
    auth::Kind,
    service::{Call, Service},
};
use crate::{
    error::{Error, Result},
    io::wire::Wire,
};

const JSON: &str = "application/json";

/// Without annotations: types that JSON knows, and the version in a header.
const PLAIN_JSON: &str = "application/json;odata=nometadata";

/// With each entity's version: nothing less is sure to name it
/// (learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations).
const FULL_JSON: &str = "application/json;odata=fullmetadata";

/// The most entities of a page; more are refused
/// (learn.microsoft.com/rest/api/storageservices/querying-tables-and-entities).
const MAX_PAGE: u32 = 1_000;

/// An entity's properties, its keys among them.
pub type Properties = Map<String, Value>;

/// An entity and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// What it holds.
    pub properties: Properties,
    /// Its version.
    pub etag: String,
}

/// Names an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its `PartitionKey`.
    pub partition: String,
    /// Its `RowKey`.
    pub row: String,
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was done; the version, where there is one.
    Done(String),
    /// There is an entity already, or one of another version.
    Conflict,
    /// There is no entity.
    Missing,
}

/// What to ask of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Which entities, in `OData`; all when empty.
    pub filter: String,
    /// Which properties, divided by commas; all when empty.
    pub select: String,
    /// How many entities a page has at most, 1,000 if it is more; what the service likes when `None`.
    pub page: Option<u32>,
}

/// A table.
#[derive(Clone)]
pub struct Table {
    service: Service,
    name: String,
}

impl Table {
    /// The table `name` of an account. It is created when something is first written.
    pub fn new(account: &Account, name: &str, wire: &Wire) -> Self {
        Self {
            service: Service::new(Kind::Table, account, wire),
            name: name.to_owned(),
        }
    }

    /// Account and table, for error texts.
    pub fn place(&self) -> String {
        format!("{}, table `{}`", self.service.place(), self.name)
    }

    /// This table, each question asked no longer than this.
    pub(super) fn within(&self, budget: Duration) -> Self {
        Self {
            service: self.service.within(budget),
            name: self.name.clone(),
        }
    }

    /// Creates the table, unless it is there.
    pub async fn create(&self) -> Result<()> {
        let body = json!({ "TableName": self.name }).to_string();
        let call = json_call(Method::POST, "/Tables".to_owned())
            .body(JSON, body)
            .service_header("prefer", "return-no-content");
        let answer = self.service.ask(&call).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::CONFLICT => Ok(()),
            _ => Err(self.unexpected(&answer)),
        }
    }

    /// One entity.
    pub async fn get(&self, key: &Key) -> Result<Option<Entity>> {
        let call = json_call(Method::GET, self.path(key));
        let answer = self.service.ask(&call).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(Entity {
                properties: self.parsed(&answer)?,
                etag: self.etag(&answer)?,
            })),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.unexpected(&answer)),
        }
    }

    /// Writes an entity that is not there yet, and creates the table when that is missing.
    pub async fn insert(&self, properties: &Properties) -> Result<Written> {
        let call = json_call(Method::POST, format!("/{}", self.name))
            .body(JSON, encoded(properties)?)
            .service_header("prefer", "return-no-content");
        let answer = self.service.ask(&call).await?;
        if !answer.is_missing("TableNotFound") {
            return self.written(&answer);
        }
        self.create().await?;
        self.written(&self.service.ask(&call).await?)
    }

    /// Writes over the version `etag` of an entity, all of it.
    pub async fn replace(&self, key: &Key, properties: &Properties, etag: &str) -> Result<Written> {
        self.change(Method::PUT, key, properties, etag).await
    }

    /// Writes over the version `etag` of an entity, these properties alone.
    pub async fn merge(&self, key: &Key, properties: &Properties, etag: &str) -> Result<Written> {
        // `MERGE` by its registered name.
        self.change(Method::PATCH, key, properties, etag).await
    }

    /// Writes an entity, whatever was there, and creates the table when that is missing.
    pub async fn put(&self, key: &Key, properties: &Properties) -> Result<()> {
        // Without `If-Match` it is no condition that there is one.
        let call = json_call(Method::PUT, self.path(key)).body(JSON, encoded(properties)?);
        let mut answer = self.service.ask(&call).await?;
        if answer.is_missing("TableNotFound") {
            self.create().await?;
            answer = self.service.ask(&call).await?;
        }
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(self.unexpected(&answer))
        }
    }

    async fn change(
        &self,
        method: Method,
        key: &Key,
        properties: &Properties,
        etag: &str,
    ) -> Result<Written> {
        let call = json_call(method, self.path(key))
            .body(JSON, encoded(properties)?)
            .header(header::IF_MATCH, etag);
        self.written(&self.service.ask(&call).await?)
    }

    /// Takes away the version `etag` of an entity; `*` is any.
    pub async fn delete(&self, key: &Key, etag: &str) -> Result<Written> {
        let call = json_call(Method::DELETE, self.path(key)).header(header::IF_MATCH, etag);
        self.written(&self.service.ask(&call).await?)
    }

    /// All entities that are asked for, page by page, in the order of their keys.
    pub async fn query(&self, query: &Query) -> Result<Vec<Properties>> {
        self.listed(query, PLAIN_JSON).await
    }

    /// Entities of a query with their versions. One without a version has an empty one.
    pub async fn entities(&self, query: &Query) -> Result<Vec<Entity>> {
        let listed = self.listed(query, FULL_JSON).await?;
        let entities = listed.into_iter().map(|mut properties| {
            let etag = properties.remove("odata.etag");
            let etag = etag.as_ref().and_then(Value::as_str).unwrap_or_default();
            let etag = etag.to_owned();
            Entity { properties, etag }
        });
        Ok(entities.collect())
    }

    async fn listed(&self, query: &Query, format: &str) -> Result<Vec<Properties>> {
        #[derive(Deserialize)]
        struct EntityPage {
            value: Vec<Properties>,
        }
        let mut found = Vec::new();
        let mut next: Option<[Option<String>; 2]> = None;
        loop {
            let mut call = call_for(format, Method::GET, format!("/{}()", self.name));
            let top = query.page.map(|page| page.min(MAX_PAGE).to_string());
            for (name, value) in [
                ("$filter", query.filter.as_str()),
                ("$select", query.select.as_str()),
                ("$top", top.as_deref().unwrap_or_default()),
            ] {
                if !value.is_empty() {
                    call = call.query(name, value);
                }
            }
            if let Some([partition, row]) = &next {
                for (name, value) in [("NextPartitionKey", partition), ("NextRowKey", row)] {
                    if let Some(value) = value {
                        call = call.query(name, value);
                    }
                }
            }
            let answer = self.service.ask(&call).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(found),
                _ => return Err(self.unexpected(&answer)),
            }
            let page: EntityPage = self.parsed(&answer)?;
            found.extend(page.value);
            // A page may be short, or empty, and yet go on.
            let after = ["NextPartitionKey", "NextRowKey"].map(|name| {
                let name = format!("x-ms-continuation-{name}");
                answer.header(&name).map(str::to_owned)
            });
            if after == [None, None] {
                return Ok(found);
            }
            let after = Some(after);
            if after == next {
                let place = self.place();
                return Err(Error::contract(format!(
                    "{place}: the same page came twice"
                )));
            }
            next = after;
        }
    }

    fn path(&self, key: &Key) -> String {
        let quoted = |text: &str| {
            let doubled = text.replace('\'', "''");
            utf8_percent_encode(&doubled, ENTITY_KEY).to_string()
        };
        let (partition, row) = (quoted(&key.partition), quoted(&key.row));
        format!("/{}(PartitionKey='{partition}',RowKey='{row}')", self.name)
    }

    fn written(&self, answer: &Answer) -> Result<Written> {
        match answer.status {
            status if status.is_success() => Ok(Written::Done(
                answer.header("etag").unwrap_or("").to_owned(),
            )),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Ok(Written::Conflict),
            StatusCode::NOT_FOUND => Ok(Written::Missing),
            _ => Err(self.unexpected(answer)),
        }
    }

    fn etag(&self, answer: &Answer) -> Result<String> {
        let etag = answer.header("etag").map(str::to_owned);
        etag.ok_or_else(|| Error::contract(format!("{}: an answer has no ETag", self.place())))
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let place = self.place();
            Error::contract(format!("{place}: no JSON at column {}", error.column()))
        })
    }

    fn unexpected(&self, answer: &Answer) -> Error {
        Error::contract(format!("{}: {}", self.place(), answer.described()))
    }
}

const ENTITY_KEY: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'!')
    .remove(b'~');

pub(super) fn json_call(method: Method, path: String) -> Call {
    call_for(PLAIN_JSON, method, path)
}

fn call_for(format: &str, method: Method, path: String) -> Call {
    Call::new(method, path)
        .header(header::ACCEPT, format)
        .service_header("dataserviceversion", "3.0")
}

/// In ASCII alone: Azurite (3.37, `readRequestIntoText`) decodes each piece of a body as it arrives,
/// and so spoils a letter of several bytes that lies across two.
fn encoded(properties: &Properties) -> Result<String> {
    let json = serde_json::to_string(properties)
        .map_err(|error| Error::contract(format!("cannot encode an entity: {error}")))?;
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut units) {
            text.extend(["\\u", &format!("{unit:04x}")]);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_sent_in_ascii() {
        let mut properties = Properties::new();
        properties.insert("Text".to_owned(), "a\"ü\n💚".into());
        let text = encoded(&properties).unwrap();
        assert_eq!(text, r#"{"Text":"a\"\u00fc\n\ud83d\udc9a"}"#);
        let back: Properties = serde_json::from_str(&text).unwrap();
        assert_eq!(back, properties);
    }
}
