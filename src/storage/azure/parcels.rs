//! Outbox, dead letters and originals: one blob each, compressed, with what a list shows of it as
//! the blob's metadata.
//!
//! So each is written and taken away by one request, and there is no moment at which it is half
//! there; a list of thousands is one request.

use std::io::{Read, Write};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use futures_util::future::try_join_all;

use super::{
    AT_ONCE, AzureStorage,
    blobs::{Blob, Meta},
    name::{escaped, original},
};
use crate::{
    core::{mapping::original::Original, position::cursor::StreamKey},
    error::{Error, Result},
    storage::{DeadLetter, DeadLetters, Originals, Outbox, Parked, with_damage},
};

const OUTBOX: &str = "outbox/";
const LETTERS: &str = "dead/";
const ORIGINALS: &str = "originals/";

/// What stands for a name that somebody has taken away.
const UNKNOWN: &str = "unknown";

/// How many characters of a reason are kept at most.
const MAX_REASON: usize = 500;

/// What all metadata of a blob may have together, but for the numbers that follow the reason. A blob
/// with more is refused, and what it holds would be nowhere
/// (learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources).
const MAX_META: usize = (8 << 10) - 128;

#[async_trait]
impl Outbox for AzureStorage {
    async fn park(&self, parked: &Parked) -> Result<()> {
        let meta = meta(
            &parked.id,
            &parked.key,
            &parked.table,
            parked.at,
            &parked.reason,
        )
        .with("rows", &parked.rows.to_string())
        .with("bytes", &parked.body.len().to_string());
        let body = pack(parked.body.clone()).await?;
        let name = format!("{OUTBOX}{}", escaped(&parked.id));
        self.blobs.put_new(&name, &meta, body).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        let listed = self.blobs.list(OUTBOX).await?;
        let entries = listed.iter().map(|blob| entry(&blob.name, &blob.meta));
        let mut entries: Vec<Parked> = entries.collect();
        entries.sort_by(|one, two| one.id.cmp(&two.id));
        entries.truncate(limit);
        Ok(entries)
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        let name = escaped(id);
        let found = self.blobs.get(&format!("{OUTBOX}{name}")).await?;
        let Some(Blob { body, meta, .. }) = found else {
            return Ok(None);
        };
        // What is not as we packed it is no batch either: the push makes a dead letter of it, whole.
        let (body, _) = unpacked(body).await?;
        let entry = entry(&name, &meta);
        Ok(Some(Parked { body, ..entry }))
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        self.blobs.delete(&format!("{OUTBOX}{}", escaped(id))).await
    }

    async fn outbox_size(&self) -> Result<(u64, u64)> {
        let listed = self.blobs.list(OUTBOX).await?;
        let bytes = listed.iter().map(|blob| number(&blob.meta, "bytes"));
        Ok((
            listed.len() as u64,
            bytes.map(Option::unwrap_or_default).sum(),
        ))
    }
}

#[async_trait]
impl DeadLetters for AzureStorage {
    async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        for some in letters.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|letter| self.bury_one(letter))).await?;
        }
        Ok(())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut listed = Vec::new();
        for blob in self.blobs.list(LETTERS).await? {
            listed.push((time(&blob.meta).unwrap_or_default(), blob.name));
        }
        listed.sort();
        listed.truncate(limit);
        let mut letters = Vec::with_capacity(listed.len());
        for some in listed.chunks(AT_ONCE) {
            let found = some.iter().map(|(_, name)| self.letter(name));
            // One that was taken out meanwhile is not there any more.
            letters.extend(try_join_all(found).await?.into_iter().flatten());
        }
        Ok(letters)
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        self.letter(&escaped(id)).await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<()> {
        self.blobs
            .delete(&format!("{LETTERS}{}", escaped(id)))
            .await
    }

    async fn count_dead_letters(&self) -> Result<u64> {
        Ok(self.blobs.list(LETTERS).await?.len() as u64)
    }
}

#[async_trait]
impl Originals for AzureStorage {
    async fn keep(&self, originals: &[Original]) -> Result<()> {
        for some in originals.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|original| self.keep_one(original))).await?;
        }
        Ok(())
    }

    async fn original(&self, key: &StreamKey, id: &str, version: &str) -> Result<Option<Original>> {
        let found = self.blobs.get(&original_name(key, id, version)).await?;
        let Some(blob) = found else {
            return Ok(None);
        };
        let (body, true) = unpacked(blob.body).await? else {
            let place = self.blobs.place();
            return Err(Error::config(format!(
                "{place}: the original of record `{id}` of {key} was changed by somebody else: the \
                 body is not gzip"
            )));
        };
        Ok(Some(Original {
            key: key.clone(),
            record_id: id.to_owned(),
            record_version: version.to_owned(),
            body,
        }))
    }
}

impl AzureStorage {
    async fn bury_one(&self, letter: &DeadLetter) -> Result<()> {
        let meta = meta(
            &letter.id,
            &letter.key,
            &letter.table,
            letter.at,
            &letter.reason,
        );
        let body = pack(letter.body.clone()).await?;
        let name = format!("{LETTERS}{}", escaped(&letter.id));
        self.blobs.put_new(&name, &meta, body).await
    }

    async fn letter(&self, name: &str) -> Result<Option<DeadLetter>> {
        let found = self.blobs.get(&format!("{LETTERS}{name}")).await?;
        let Some(Blob { body, meta, .. }) = found else {
            return Ok(None);
        };
        let (body, is_whole) = unpacked(body).await?;
        let at = time(&meta);
        let damage = [
            (at.is_none(), "its time is missing"),
            (!is_whole, "its body is not as it was written"),
        ];
        Ok(Some(DeadLetter {
            id: id(name, &meta),
            key: key(&meta),
            table: meta.get("table"),
            at: at.unwrap_or_default(),
            reason: with_damage(meta.get("reason"), &damage),
            body,
        }))
    }

    async fn keep_one(&self, original: &Original) -> Result<()> {
        let name = original_name(&original.key, &original.record_id, &original.record_version);
        let body = pack(original.body.clone()).await?;
        self.blobs.put(&name, body).await
    }
}

/// An entry without its body, as far as its blob still tells of it: one that somebody has changed hides
/// none of the others, and blocks nothing.
fn entry(name: &str, meta: &Meta) -> Parked {
    let (at, rows, bytes) = (time(meta), number(meta, "rows"), number(meta, "bytes"));
    let damage = [
        (at.is_none(), "its time is missing"),
        (rows.is_none() || bytes.is_none(), "its size is missing"),
    ];
    Parked {
        id: id(name, meta),
        key: key(meta),
        table: meta.get("table"),
        at: at.unwrap_or_default(),
        rows: rows.unwrap_or_default(),
        bytes: bytes.unwrap_or_default(),
        reason: with_damage(meta.get("reason"), &damage),
        body: Vec::new(),
    }
}

/// The id by which the blob of this name is found again.
fn id(name: &str, meta: &Meta) -> String {
    original(name, &meta.get("id"))
}

fn time(meta: &Meta) -> Option<DateTime<Utc>> {
    meta.get("at").parse().ok()
}

fn number(meta: &Meta, name: &str) -> Option<u64> {
    meta.get(name).parse().ok()
}

/// The bytes that were packed, and true; or those that are there when somebody has changed them.
async fn unpacked(packed: Bytes) -> Result<(Vec<u8>, bool)> {
    let unpacked = off_thread(move || {
        let mut bytes = Vec::new();
        Ok(match GzDecoder::new(&packed[..]).read_to_end(&mut bytes) {
            Ok(_) => (bytes, true),
            Err(_) => (packed.to_vec(), false),
        })
    });
    unpacked
        .await?
        .map_err(|error| Error::contract(format!("cannot unpack: {error}")))
}

fn meta(id: &str, key: &StreamKey, table: &str, at: DateTime<Utc>, reason: &str) -> Meta {
    let meta = Meta::default()
        .with("id", id)
        .with("connection", &key.connection)
        .with("stream", &key.stream)
        .with("table", table)
        .with("at", &at.to_rfc3339_opts(SecondsFormat::Nanos, true));
    let mut reason: String = reason.chars().take(MAX_REASON).collect();
    // A letter has up to twelve bytes there.
    loop {
        let whole = meta.clone().with("reason", &reason);
        if whole.size() <= MAX_META || reason.pop().is_none() {
            return whole;
        }
    }
}

fn key(meta: &Meta) -> StreamKey {
    let name = |part| Some(meta.get(part)).filter(|name| !name.is_empty());
    let [connection, stream] = ["connection", "stream"].map(name);
    StreamKey {
        connection: connection.unwrap_or_else(|| UNKNOWN.to_owned()),
        stream: stream.unwrap_or_else(|| UNKNOWN.to_owned()),
    }
}

fn original_name(key: &StreamKey, id: &str, version: &str) -> String {
    let [connection, stream, id, version] =
        [&key.connection, &key.stream, id, version].map(escaped);
    format!("{ORIGINALS}{connection}/{stream}/{id}/{version}")
}

async fn pack(body: Vec<u8>) -> Result<Bytes> {
    off_thread(move || {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&body)?;
        packer.finish().map(Bytes::from)
    })
    .await?
    .map_err(|error| Error::contract(format!("cannot compress: {error}")))
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<std::io::Result<T>> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::transient("the process is stopping"))
}
