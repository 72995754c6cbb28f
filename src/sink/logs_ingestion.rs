//! The Logs Ingestion API: rows through a data collection rule into the tables of a workspace.
//!
//! One push is one call (two when the access token is refused). The limits hold by construction: a
//! batch is at most 1,000,000 bytes of JSON, and what is sent is never longer than that
//! (`learn.microsoft.com/azure/azure-monitor/service-limits#logs-ingestion-api`).

use std::{collections::BTreeMap, io::Read, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status, read::GzDecoder};
use http::{HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use super::{PushError, Room, Sink};
use crate::{
    core::{
        json::pool::{BufferPool, Pool, PooledBuf},
        mapping::batch::{Batch, MAX_BATCH_BYTES},
        position::window::delta,
    },
    error::{Attempt, Error, Result},
    io::{
        clock::timeout,
        http::{Request, Response},
        retry::{Limits, RetryBudget},
        token::{Rejected, SharedTokens},
        wire::Wire,
    },
};

mod answer;

use answer::Seen;

const API_VERSION: &str = "2023-01-01";

/// The largest window of gzip.
const WINDOW_BITS: u8 = 15;

/// So much is compressed before those who read get their turn, where there are few processors: the
/// sooner an answer is read, the sooner the next one is asked for.
const AT_ONCE: usize = 64 << 10;

/// How long one call may take: a megabyte over a slow line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where rows go.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Places {
    /// The scope of its tokens.
    pub scope: String,
    /// Where the rows of each table go.
    pub tables: BTreeMap<String, Target>,
}

/// A stream of a data collection rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The endpoint of the rule, or of a data collection endpoint; no slash at its end.
    pub endpoint: String,
    /// The rule's immutable id.
    pub dcr: String,
    /// The stream's name.
    pub stream: String,
}

/// The sink.
pub struct LogsIngestion {
    places: Places,
    tokens: SharedTokens,
    wire: Wire,
    packer: Packer,
}

impl LogsIngestion {
    /// Pushes to `places`. Asks nobody yet.
    pub fn new(places: Places, tokens: SharedTokens, wire: Wire) -> Self {
        Self {
            places,
            tokens,
            wire,
            packer: Packer::default(),
        }
    }

    fn target(&self, table: &str) -> Result<&Target> {
        self.places.tables.get(table).ok_or_else(|| {
            let known: Vec<String> = self
                .places
                .tables
                .keys()
                .map(|table| format!("`{table}`"))
                .collect();
            Error::config(format!(
                "no stream of a data collection rule takes the table `{table}`, only {} have one: \
                 correct `ROUTES`",
                known.join(", ")
            ))
        })
    }

    /// One push of a batch that was compressed.
    async fn push_sent(
        &self,
        target: &Target,
        batch: &Batch,
        body: &SentBatch,
    ) -> std::result::Result<(), PushError> {
        let clock = &*self.wire.clock;
        let limits = Limits::until(clock.now() + delta(PATIENCE));
        let mut tries = RetryBudget::new(clock, &self.wire.random, limits.deadline, 1);
        let scope = &self.places.scope;
        let attempt = |status| {
            let Target { dcr, stream, .. } = target;
            let path = format!("/dataCollectionRules/{dcr}/streams/{stream}");
            Attempt {
                status,
                ..Attempt::new(Method::POST, path)
            }
        };
        let mut rejected = None;
        loop {
            let refused = rejected.as_ref().map(Rejected::Refused);
            let token = self.tokens.token(scope, refused, &limits).await;
            let token = token.map_err(|error| PushError::of(error.context("logs ingestion")))?;
            tries.attempt();
            let failed = |error: Error, status| tries.counted(error.of(attempt(status)));
            let sent = self.send(Self::request(target, batch, body, &token)?).await;
            let seen = sent.map_err(|error| PushError::of(failed(error, None)))?;
            if seen.status == StatusCode::UNAUTHORIZED && rejected.is_none() {
                tracing::debug!("logs ingestion refuses the access token");
                rejected = Some(token);
                continue;
            }
            let status = Some(seen.status);
            let meaning = answer::meaning(&seen, target, &self.places, clock.now());
            return meaning.map_err(|error| match error {
                PushError::Later(error) => PushError::Later(failed(error, status)),
                PushError::Failed(error) => PushError::Failed(failed(error, status)),
                refused => refused,
            });
        }
    }

    async fn send(&self, request: Request) -> Result<Seen> {
        let exchange = async {
            let response = self.wire.transport.send(request).await;
            let response = response.map_err(Error::from)?;
            Ok(seen(response).await)
        };
        let sent = timeout(&*self.wire.clock, PATIENCE, exchange).await;
        let sent = sent.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(Error::transient(format!("no answer within {seconds} s")))
        });
        sent.map_err(|error| error.context("logs ingestion"))
    }

    fn request(
        target: &Target,
        batch: &Batch,
        body: &SentBatch,
        token: &SecretString,
    ) -> Result<Request> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::contract("the access token is no header value"))?;
        bearer.set_sensitive(true);
        let Target {
            endpoint,
            dcr,
            stream,
        } = target;
        let mut request = http::Request::post(format!(
            "{endpoint}/dataCollectionRules/{dcr}/streams/{stream}?api-version={API_VERSION}"
        ))
        .header(header::AUTHORIZATION, bearer)
        .header(header::CONTENT_TYPE, "application/json");
        if body.compressed {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        if let Some(id) = guid(batch.id()) {
            request = request.header("x-ms-client-request-id", id);
        }
        request.body(body.bytes.clone()).map_err(|_| {
            Error::config(
                "`LOGS_INGESTION_ENDPOINT`, `DCR_IMMUTABLE_ID` and the streams make no URL: \
                 correct them",
            )
        })
    }
}

#[async_trait]
impl Sink for LogsIngestion {
    async fn push(&self, batch: &Batch) -> std::result::Result<(), PushError> {
        let target = self.target(batch.table())?;
        if batch.is_empty() {
            return Ok(());
        }
        let body = self.packer.packed(batch).await?;
        self.push_sent(target, batch, &body).await
    }

    /// No rows at all, but a call: whoever may not push, and where nobody takes rows, gets to know.
    async fn check(&self, table: &str) -> std::result::Result<(), PushError> {
        let target = self.target(table)?;
        let none = SentBatch {
            bytes: Bytes::from_static(b"[]"),
            compressed: false,
        };
        match self.push_sent(target, &Batch::new(table), &none).await {
            // It got as far as the rows.
            Err(PushError::Refused(_)) => Ok(()),
            end => end,
        }
    }

    /// While the service is waited for, only what was compressed is held.
    async fn push_away(&self, batch: &mut Batch, room: Room) -> std::result::Result<(), PushError> {
        let target = self.target(batch.table())?;
        if batch.is_empty() {
            return Ok(());
        }
        let body = self.packer.packed(batch).await?;
        batch.let_go();
        drop(room);
        let pushed = self.push_sent(target, batch, &body).await;
        if pushed.is_err() {
            batch.give_back(body.json().await?);
        }
        pushed
    }
}

/// What goes over the wire.
struct SentBatch {
    bytes: Bytes,
    compressed: bool,
}

impl SentBatch {
    /// What it was made of.
    async fn json(self) -> Result<Vec<u8>> {
        if !self.compressed {
            return Ok(self.bytes.into());
        }
        let plain = tokio::task::spawn_blocking(move || {
            let mut json = Vec::with_capacity(MAX_BATCH_BYTES);
            GzDecoder::new(&*self.bytes)
                .read_to_end(&mut json)
                .map(|_| json)
        });
        match plain.await {
            Ok(Ok(json)) => Ok(json),
            Ok(Err(_)) => Err(Error::contract("a batch was not compressed well")),
            Err(_) => Err(stopped()),
        }
    }
}

/// Compresses, and keeps the memory that it needs for that.
#[derive(Clone, Default)]
struct Packer {
    buffers: BufferPool,
    idle: Pool<Press, 8>,
}

/// A compressor with a small buffer of its own. It fills a buffer that was never written to with zeros
/// at each step, so that a large one would cost ten times the batch.
struct Press {
    zip: Compress,
    made: Box<[u8]>,
}

impl Default for Press {
    fn default() -> Self {
        Self {
            zip: Compress::new_gzip(Compression::fast(), WINDOW_BITS),
            made: vec![0; AT_ONCE].into(),
        }
    }
}

impl Packer {
    /// Off the async threads: a megabyte takes its time.
    async fn packed(&self, batch: &Batch) -> Result<SentBatch> {
        let (packer, json) = (self.clone(), batch.shared_json());
        let sent = tokio::task::spawn_blocking(move || {
            let json = (*json).as_ref();
            packer.pack(json).map_or_else(
                || SentBatch {
                    bytes: Bytes::copy_from_slice(json),
                    compressed: false,
                },
                |packed| SentBatch {
                    bytes: Bytes::from_owner(packed),
                    compressed: true,
                },
            )
        });
        sent.await.map_err(|_| stopped())
    }

    /// What can't be compressed must not grow over the limit: `None` when it would not be shorter.
    fn pack(&self, json: &[u8]) -> Option<PooledBuf> {
        let Press { mut zip, mut made } = self.idle.take().unwrap_or_default();
        // Most rows shrink to less.
        let room = json.len() / 3 + 64;
        let mut packed = self.buffers.buffer(room);
        let count = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
        let is_whole = loop {
            let rest = json.get(count(zip.total_in())..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(AT_ONCE));
            let flush = if later.is_empty() {
                FlushCompress::Finish
            } else {
                FlushCompress::None
            };
            let before = zip.total_out();
            let status = zip.compress(now, &mut made, flush);
            let made = made.get(..count(zip.total_out() - before));
            let made = made.unwrap_or_default();
            if packed.bytes.capacity() - packed.bytes.len() < made.len() {
                packed.bytes.reserve_exact(room.max(made.len()));
            }
            packed.bytes.extend_from_slice(made);
            match status {
                Ok(Status::StreamEnd) => break true,
                Ok(_) if packed.bytes.len() < json.len() => std::thread::yield_now(),
                Ok(_) | Err(_) => break false,
            }
        };
        zip.reset();
        self.idle.give(Press { zip, made });
        (is_whole && packed.bytes.len() < json.len()).then_some(packed)
    }
}

fn stopped() -> Error {
    Error::transient("asked to stop; the next run goes on from here")
}

/// What an answer says, without the rest of its body, which could quote a row.
async fn seen(response: Response) -> Seen {
    let status = response.status;
    let retry_after = response.header("retry-after").map(str::to_owned);
    let code = response.header("x-ms-error-code").map(str::to_owned);
    let code = match code {
        None if !status.is_success() => answer::code_in(response.whole_body().await.ok()),
        code => code,
    };
    Seen {
        status,
        retry_after,
        code: code.filter(|code| answer::is_code(code)),
    }
}

/// The batch id where the service wants a GUID: its 16 digits, after zeros.
fn guid(id: &str) -> Option<String> {
    let whole = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (first, last) = whole.then(|| id.split_at_checked(4)).flatten()?;
    Some(format!("00000000-0000-0000-{first}-{last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mapping::batch::{ROW_HEAD, ROW_TAIL};

    #[test]
    fn one_packer_packs_one_text_after_the_other() {
        let packer = Packer::default();
        let noise: Vec<u8> = (0..4_000_u32)
            .flat_map(|at| xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()).to_le_bytes())
            .collect();
        // Short, long, poorly compressible, and not at all.
        let half = [&noise[..], &b"x".repeat(30_000)].concat();
        for text in [
            &b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..],
            &b"y".repeat(700_000),
            &half,
        ] {
            let packed = packer.pack(text).unwrap();
            let mut plain = Vec::new();
            GzDecoder::new(packed.as_ref())
                .read_to_end(&mut plain)
                .unwrap();
            assert!(plain == text);
        }
        assert!(packer.pack(&noise).is_none() && packer.pack(b"[]").is_none());
        assert!(packer.pack(&half).is_some());
        assert!(packer.idle.take().is_some() && packer.idle.take().is_none());
    }

    #[tokio::test]
    async fn what_was_compressed_is_given_back_to_the_byte() {
        // Of one row little is saved, of many much.
        for rows in [1, 500] {
            let mut batch = Batch::new("T");
            for at in 0..rows {
                let time = "2026-01-01T00:00:00.000Z";
                let note = format!(r#"","note":"{at} {at}","#);
                batch.add([ROW_HEAD, time, &note, ROW_TAIL].concat().as_bytes());
            }
            let mut held = batch.clone();
            let sent = Packer::default().packed(&held).await.unwrap();
            held.let_go();
            assert_eq!(held.len(), rows);
            held.give_back(sent.json().await.unwrap());
            assert_eq!(held, batch);
        }
    }

    #[test]
    fn a_batch_id_becomes_a_guid() {
        assert_eq!(
            guid("0123456789abcdef").as_deref(),
            Some("00000000-0000-0000-0123-456789abcdef")
        );
        assert_eq!(guid("batch00000000000"), None);
        assert_eq!(guid("0123"), None);
    }
}
