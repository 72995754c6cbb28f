//! A container of Blob Storage: as much of its protocol as we need
//! (learn.microsoft.com/rest/api/storageservices/blob-service-rest-api).

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

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

const BYTES: &str = "application/octet-stream";
const META: &str = "x-ms-meta-";

/// How many appends a blob takes
/// (learn.microsoft.com/azure/storage/blobs/scalability-targets).
pub(super) const MAX_APPENDS: u64 = 50_000;

/// How many bytes one append takes in the version of the service that we speak
/// (learn.microsoft.com/rest/api/storageservices/append-block).
pub(super) const MAX_APPEND: usize = 4 << 20;

/// What is known of a blob beside its bytes: short texts under names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta(HashMap<String, String>);

impl Meta {
    /// Adds a text. They may have 8 KiB together, as they are sent.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let encoded = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        self.0.insert(name.to_owned(), encoded);
        self
    }

    /// The bytes that the names and the texts have as they are sent.
    pub(super) fn size(&self) -> usize {
        let sizes = self.0.iter().map(|(name, value)| name.len() + value.len());
        sizes.sum()
    }

    /// A text, empty when there is none.
    pub(super) fn get(&self, name: &str) -> String {
        let value = self.0.get(name).map_or("", String::as_str);
        percent_decode_str(value).decode_utf8_lossy().into_owned()
    }
}

/// A blob, whole.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) body: Bytes,
    pub(super) meta: Meta,
    /// How many appends it has had.
    pub(super) appends: u64,
}

/// A blob in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListedBlob {
    pub(super) name: String,
    pub(super) meta: Meta,
}

/// Whether something is another one by now.
#[derive(Debug)]
pub enum Changed<T> {
    /// It is as it was.
    No,
    /// What it is now.
    To(T),
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    Done,
    /// The blob takes no more.
    Full,
}

/// A container.
#[derive(Clone)]
pub(super) struct Container {
    service: Service,
    name: String,
}

impl Container {
    /// The container `name` of an account. It is created when something is first written.
    pub(super) fn new(account: &Account, name: &str, wire: &Wire) -> Self {
        Self {
            service: Service::new(Kind::Blob, account, wire),
            name: name.to_owned(),
        }
    }

    /// Writes a blob whole, over what there is.
    pub(super) async fn put(&self, blob: &str, body: Bytes) -> Result<()> {
        let call = self.put_call(blob, body);
        self.done(blob, &self.write(&call).await?)
    }

    /// Writes a blob whole, unless there is one of this name.
    pub(super) async fn put_new(&self, blob: &str, meta: &Meta, body: Bytes) -> Result<()> {
        let mut call = self.put_call(blob, body).header(header::IF_NONE_MATCH, "*");
        for (name, value) in &meta.0 {
            // Some proxies drop headers without a value.
            if !value.is_empty() {
                let name = HeaderName::try_from(format!("{META}{name}"));
                let name = name.map_err(|_| Error::contract("not a name for a header"))?;
                call = call.header(name, value.as_str());
            }
        }
        let answer = self.write(&call).await?;
        self.done_or(blob, &answer, "BlobAlreadyExists")
    }

    /// Adds at most [`MAX_APPEND`] bytes to the end of a blob. When an answer is lost, the bytes may be
    /// there twice.
    pub(super) async fn append(&self, blob: &str, body: Bytes) -> Result<Appended> {
        let append = Call::new(Method::PUT, self.path(blob))
            .query("comp", "appendblock")
            .body(BYTES, body);
        let mut answer = self.write(&append).await?;
        if answer.is_missing("BlobNotFound") {
            let create = Call::new(Method::PUT, self.path(blob))
                .service_header("x-ms-blob-type", "AppendBlob")
                .header(header::IF_NONE_MATCH, "*")
                .body(BYTES, Bytes::new());
            let created = self.write(&create).await?;
            self.done_or(blob, &created, "BlobAlreadyExists")?;
            answer = self.write(&append).await?;
        }
        if answer.code == "BlockCountExceedsLimit" {
            return Ok(Appended::Full);
        }
        self.done(blob, &answer).map(|()| Appended::Done)
    }

    /// A blob and its `ETag`, unless that is `known`. `None` for the inner one: there is none.
    pub(super) async fn get_changed(
        &self,
        blob: &str,
        known: Option<&str>,
    ) -> Result<Changed<Option<(Bytes, String)>>> {
        let mut call = Call::new(Method::GET, self.path(blob));
        if let Some(known) = known {
            call = call.header(header::IF_NONE_MATCH, known);
        }
        let answer = self.service.ask(&call).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => return Ok(Changed::No),
            StatusCode::NOT_FOUND => return Ok(Changed::To(None)),
            _ => self.done(blob, &answer)?,
        }
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        Ok(Changed::To(Some((answer.body, etag))))
    }

    /// Writes a blob whole over the one with this `ETag`, or where there is none. False when it is
    /// another one by now.
    pub(super) async fn put_over(
        &self,
        blob: &str,
        body: Bytes,
        known: Option<&str>,
    ) -> Result<bool> {
        let call = self.put_call(blob, body);
        let call = match known {
            Some(etag) => call.header(header::IF_MATCH, etag),
            None => call.header(header::IF_NONE_MATCH, "*"),
        };
        let answer = self.write(&call).await?;
        if answer.status == StatusCode::PRECONDITION_FAILED || answer.code == "BlobAlreadyExists" {
            return Ok(false);
        }
        self.done(blob, &answer).map(|()| true)
    }

    /// A blob, if there is one.
    pub(super) async fn get(&self, blob: &str) -> Result<Option<Blob>> {
        let call = Call::new(Method::GET, self.path(blob));
        let answer = self.service.ask(&call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.done(blob, &answer)?;
        let meta = answer.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(META)?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        });
        let appends = answer.header("x-ms-blob-committed-block-count");
        Ok(Some(Blob {
            meta: Meta(meta.collect()),
            appends: appends.and_then(|count| count.parse().ok()).unwrap_or(0),
            body: answer.body,
        }))
    }

    /// Bytes of a blob from `from` on, `length` at most; empty at its end, none without a blob.
    pub(super) async fn range(&self, blob: &str, from: u64, length: u64) -> Result<Option<Bytes>> {
        let range = format!("bytes={from}-{}", from + length - 1);
        let call = Call::new(Method::GET, self.path(blob)).service_header("x-ms-range", range);
        let answer = self.service.ask(&call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(Bytes::new())),
            _ => self.done(blob, &answer).map(|()| Some(answer.body)),
        }
    }

    /// Takes a blob away, if there is one.
    pub(super) async fn delete(&self, blob: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, self.path(blob));
        let answer = self.service.ask(&call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.done(blob, &answer)
    }

    /// All blobs whose name begins with `prefix`, by name, without it.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ListedBlob>> {
        let mut listed = Vec::new();
        let mut marker = String::new();
        loop {
            let mut call = Call::new(Method::GET, format!("/{}", self.name))
                .query("restype", "container")
                .query("comp", "list")
                .query("include", "metadata")
                .query("prefix", prefix);
            if !marker.is_empty() {
                call = call.query("marker", marker.clone());
            }
            let answer = self.service.ask(&call).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(listed);
            }
            self.done(prefix, &answer)?;
            let (page, next) = page(&answer.body).map_err(|what| {
                Error::contract(format!("{}: a list of blobs {what}", self.place()))
            })?;
            listed.extend(page.into_iter().filter_map(|blob| {
                let name = blob.name.strip_prefix(prefix)?.to_owned();
                Some(ListedBlob { name, ..blob })
            }));
            if next.is_empty() {
                return Ok(listed);
            }
            if next == marker {
                let place = self.place();
                return Err(Error::contract(format!(
                    "{place}: the same page came twice"
                )));
            }
            marker = next;
        }
    }

    /// Account and container, for error texts.
    pub(super) fn place(&self) -> String {
        format!("{}, container `{}`", self.service.place(), self.name)
    }

    fn path(&self, blob: &str) -> String {
        format!("/{}/{blob}", self.name)
    }

    fn put_call(&self, blob: &str, body: Bytes) -> Call {
        Call::new(Method::PUT, self.path(blob))
            .service_header("x-ms-blob-type", "BlockBlob")
            .body(BYTES, body)
    }

    /// Asks, and once more after creating the container when that is missing.
    async fn write(&self, call: &Call) -> Result<Answer> {
        let answer = self.service.ask(call).await?;
        if !answer.is_missing("ContainerNotFound") {
            return Ok(answer);
        }
        let create =
            Call::new(Method::PUT, format!("/{}", self.name)).query("restype", "container");
        let created = self.service.ask(&create).await?;
        self.done_or("", &created, "ContainerAlreadyExists")?;
        self.service.ask(call).await
    }

    /// Done, or refused for this reason, which is as good.
    fn done_or(&self, blob: &str, answer: &Answer, code: &str) -> Result<()> {
        if answer.code == code {
            return Ok(());
        }
        self.done(blob, answer)
    }

    fn done(&self, blob: &str, answer: &Answer) -> Result<()> {
        if answer.status.is_success() {
            return Ok(());
        }
        let (place, what) = (self.place(), answer.described());
        if answer.code == "InvalidBlobType" {
            return Err(Error::config(format!(
                "{place}: `{blob}` {what}: somebody else has written a blob of another type in its \
                 place; delete it"
            )));
        }
        Err(Error::contract(format!("{place}: `{blob}` {what}")))
    }
}

/// The blobs of a page, and the marker of the next one.
fn page(body: &[u8]) -> std::result::Result<(Vec<ListedBlob>, String), String> {
    #[derive(Deserialize)]
    struct BlobPage {
        #[serde(rename = "Blobs")]
        blobs: Blobs,
        #[serde(rename = "NextMarker", default)]
        next: String,
    }
    #[derive(Deserialize)]
    struct Blobs {
        #[serde(rename = "Blob", default)]
        blobs: Vec<Blob>,
    }
    #[derive(Deserialize)]
    struct Blob {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Metadata")]
        meta: Option<HashMap<String, String>>,
    }
    let text = std::str::from_utf8(body).map_err(|_| "is no text".to_owned())?;
    // The service begins with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let page: BlobPage = quick_xml::de::from_str(text).map_err(|_| "is no XML".to_owned())?;
    let listed = page.blobs.blobs.into_iter().map(|blob| ListedBlob {
        name: blob.name,
        meta: Meta(blob.meta.unwrap_or_default()),
    });
    Ok((listed.collect(), page.next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
            <EnumerationResults ServiceEndpoint=\"https://x/\" ContainerName=\"c\">\
            <Prefix>outbox/</Prefix><Blobs>\
            <Blob><Name>outbox/a</Name><Properties><Etag>0x1</Etag></Properties>\
            <Metadata><reason>a%20b%0A</reason><rows>2</rows></Metadata><OrMetadata/></Blob>\
            <Blob><Name>outbox/b</Name><Properties/><Metadata/></Blob>\
            </Blobs><NextMarker>2!8&amp;x=</NextMarker></EnumerationResults>";
        let (listed, next) = page(body.as_bytes()).unwrap();
        assert_eq!(next, "2!8&x=");
        let names: Vec<_> = listed.iter().map(|blob| blob.name.as_str()).collect();
        assert_eq!(names, ["outbox/a", "outbox/b"]);
        assert_eq!(listed[0].meta.get("reason"), "a b\n");
        assert_eq!(listed[0].meta.get("rows"), "2");
        assert_eq!(listed[1].meta.get("rows"), "");
    }

    #[test]
    fn an_empty_page_is_the_last() {
        let body = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(page(body.as_bytes()).unwrap(), (Vec::new(), String::new()));
        assert!(page(b"<html>").is_err());
    }

    #[test]
    fn any_text_survives_as_metadata() {
        let text = " a\tb\nü\"%: ";
        let meta = Meta::default().with("x", text);
        assert_eq!(meta.get("x"), text);
        assert!(meta.0["x"].is_ascii());
    }
}
