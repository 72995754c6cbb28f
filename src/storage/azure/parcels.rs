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
    name::escaped,
};
use crate::{
    core::position::cursor::StreamKey,
    error::{Error, Result},
    storage::{DeadLetter, DeadLetters, Original, Originals, Outbox, Parked},
};

const OUTBOX: &str = "outbox/";
const LETTERS: &str = "dead/";
const ORIGINALS: &str = "originals/";

/// How many characters of a reason are kept: all metadata of a blob have 8 KiB together, and a
/// character may need twelve bytes there.
const MAX_REASON: usize = 500;

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
        let entries = listed.iter().map(|blob| self.entry(&blob.meta));
        let mut entries = entries.collect::<Result<Vec<_>>>()?;
        entries.sort_by(|one, two| one.id.cmp(&two.id));
        entries.truncate(limit);
        Ok(entries)
    }

    async fn parked_rows(&self, id: &str) -> Result<Option<Parked>> {
        let found = self.blobs.get(&format!("{OUTBOX}{}", escaped(id))).await?;
        let Some(Blob { body, meta, .. }) = found else {
            return Ok(None);
        };
        let entry = self.entry(&meta)?;
        let body = self.unpacked(body).await?;
        Ok(Some(Parked { body, ..entry }))
    }

    async fn drop_parked(&self, id: &str) -> Result<()> {
        self.blobs.delete(&format!("{OUTBOX}{}", escaped(id))).await
    }

    async fn outbox_size(&self) -> Result<(u64, u64)> {
        let listed = self.blobs.list(OUTBOX).await?;
        let mut bytes = 0;
        for blob in &listed {
            bytes += self.number(&blob.meta, "bytes")?;
        }
        Ok((listed.len() as u64, bytes))
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
            listed.push((self.time(&blob.meta)?, blob.name));
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
        Ok(Some(Original {
            key: key.clone(),
            record_id: id.to_owned(),
            record_version: version.to_owned(),
            body: self.unpacked(blob.body).await?,
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
        Ok(Some(DeadLetter {
            id: meta.get("id"),
            key: key(&meta),
            table: meta.get("table"),
            at: self.time(&meta)?,
            reason: meta.get("reason"),
            body: self.unpacked(body).await?,
        }))
    }

    async fn keep_one(&self, original: &Original) -> Result<()> {
        let name = original_name(&original.key, &original.record_id, &original.record_version);
        let body = pack(original.body.clone()).await?;
        self.blobs.put(&name, body).await
    }

    fn entry(&self, meta: &Meta) -> Result<Parked> {
        Ok(Parked {
            id: meta.get("id"),
            key: key(meta),
            table: meta.get("table"),
            at: self.time(meta)?,
            rows: self.number(meta, "rows")?,
            bytes: self.number(meta, "bytes")?,
            reason: meta.get("reason"),
            body: Vec::new(),
        })
    }

    fn time(&self, meta: &Meta) -> Result<DateTime<Utc>> {
        let at = meta.get("at").parse();
        at.map_err(|_| self.damaged(meta, "`at` is no time"))
    }

    fn number(&self, meta: &Meta, name: &str) -> Result<u64> {
        let number = meta.get(name).parse();
        number.map_err(|_| self.damaged(meta, &format!("`{name}` is no number")))
    }

    async fn unpacked(&self, packed: Bytes) -> Result<Vec<u8>> {
        let unpacked = off_thread(move || {
            let mut bytes = Vec::new();
            GzDecoder::new(&packed[..])
                .read_to_end(&mut bytes)
                .map(|_| bytes)
        });
        let damaged = |_| self.damaged(&Meta::default(), "the body is not gzip");
        unpacked.await?.map_err(damaged)
    }

    fn damaged(&self, meta: &Meta, what: &str) -> Error {
        let (place, id) = (self.blobs.place(), meta.get("id"));
        Error::config(format!(
            "{place}: a blob of ours was changed by somebody else (id `{id}`): {what}"
        ))
    }
}

fn meta(id: &str, key: &StreamKey, table: &str, at: DateTime<Utc>, reason: &str) -> Meta {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    Meta::default()
        .with("id", id)
        .with("connection", &key.connection)
        .with("stream", &key.stream)
        .with("table", table)
        .with("at", &at.to_rfc3339_opts(SecondsFormat::Nanos, true))
        .with("reason", &reason)
}

fn key(meta: &Meta) -> StreamKey {
    StreamKey::new(&meta.get("connection"), &meta.get("stream"))
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
