//! The writer: records → rows → batches → sink, and the cursor behind them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Job, Parts,
    land::{Landed, Lander},
    lease::Held,
    letter,
    map::{Bad, Found, Mapped, Mapper, Mark},
    read::Piece,
    report::Report,
};
use crate::{
    core::{
        batch::Batch,
        cursor::Move,
        dedupe::{self, Seen, UNDATED, bucket_of, generations},
        page::Chunk,
        window::delta,
    },
    error::{Error, Result},
    io::exchange::Limits,
    source::Subject,
    storage::DeadLetter,
};

/// Pushes under way at once.
const PUSHES: usize = 3;

/// Records that are looked up together: so many are safe even if the time ends with the next ones.
const LOOKED_UP_TOGETHER: usize = 100;

/// How long fingerprints are kept beyond what the lookback of their stream needs: streams that share
/// a set may be that far apart.
const KEPT_LONGER: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// A batch under way to the sink, and the marks of its rows.
type Push = AbortOnDropHandle<(Landed, Vec<Mark>)>;

pub(super) struct Writer<'a, 'h> {
    job: &'a Job,
    parts: &'a Parts,
    limits: &'a Limits,
    began: DateTime<Utc>,
    held: &'a mut Held<'h>,
    report: &'a mut Report,
    lander: Arc<Lander>,
    mapper: Arc<Mapper>,
    seen: Seen,
    batch: Batch,
    /// One mark for each row of `batch`.
    marks: Vec<Mark>,
    pushes: FuturesOrdered<Push>,
    /// Batches that were sealed, and of these the ones that have landed.
    sealed: u64,
    landed: u64,
    /// Moves, each with how many batches must have landed before it.
    moves: VecDeque<(u64, Move)>,
    /// A push failed: nothing behind it may move the cursor.
    broken: bool,
}

impl<'a, 'h> Writer<'a, 'h> {
    pub(super) fn new(
        job: &'a Job,
        parts: &'a Parts,
        limits: &'a Limits,
        held: &'a mut Held<'h>,
        report: &'a mut Report,
    ) -> Self {
        let endpoint = job.source.endpoint();
        Self {
            job,
            parts,
            limits,
            began: parts.clock.now(),
            held,
            report,
            lander: Arc::new(Lander::new(
                parts.clone(),
                limits.clone(),
                job.event_time,
                Some(job.key.clone()),
            )),
            mapper: Arc::new(Mapper::new(endpoint, &job.key, job.event_time)),
            seen: Seen::default(),
            batch: Batch::new(&job.table),
            marks: Vec::new(),
            pushes: FuturesOrdered::new(),
            sealed: 0,
            landed: 0,
            moves: VecDeque::new(),
            broken: false,
        }
    }

    /// Handles what the reader hands on, until it stops. What was handled before an error is safe
    /// afterwards, as far as the sink takes it.
    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Piece>) -> Result<()> {
        let worked = self.work(&mut incoming).await;
        drop(incoming);
        let settled = self.settle_all().await;
        worked.and(settled)
    }

    async fn work(&mut self, incoming: &mut mpsc::Receiver<Piece>) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                Some(push) = self.pushes.next() => self.settle(push).await?,
                piece = incoming.recv() => match piece {
                    None => return Ok(()),
                    Some(Piece::Chunk(chunk)) => self.chunk(chunk).await?,
                    Some(Piece::Move(change)) => self.follow(change).await?,
                },
            }
        }
    }

    /// Records → facts → drop what was seen → look up → rows → batches.
    async fn chunk(&mut self, chunk: Chunk) -> Result<()> {
        self.report.counts.pulled += chunk.len() as u64;
        self.report.bytes += chunk.bytes.len() as u64;
        let mapper = Arc::clone(&self.mapper);
        let (chunk, found, bad) = blocking(move || {
            let (found, bad) = mapper.identify(&chunk);
            (chunk, found, bad)
        })
        .await?;
        self.load_seen(
            found
                .iter()
                .map(|found| found.mark)
                .chain(bad.iter().map(|bad| bad.mark)),
        )
        .await?;
        self.bury_bad(bad).await?;
        let pulled = found.len();
        let fresh: Vec<Found> = found
            .into_iter()
            .filter(|found| self.seen.insert(found.mark.0, found.mark.1))
            .collect();
        self.report.counts.duplicate += (pulled - fresh.len()) as u64;

        let chunk = Arc::new(chunk);
        let together = if self.job.source.looks_up() {
            LOOKED_UP_TOGETHER
        } else {
            usize::MAX
        };
        let mut fresh = fresh.into_iter().peekable();
        while fresh.peek().is_some() {
            let group: Vec<Found> = fresh.by_ref().take(together).collect();
            self.rows(Arc::clone(&chunk), group).await?;
        }
        Ok(())
    }

    async fn load_seen(&mut self, marks: impl Iterator<Item = Mark>) -> Result<()> {
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        for bucket in self.seen.missing(marks.map(|(bucket, _)| bucket)) {
            if bucket == UNDATED {
                for generation in generations(self.began) {
                    let known = storage.fingerprints(&undated, generation).await?;
                    self.seen.load(bucket, known);
                }
            } else {
                let known = storage.fingerprints(&dated, bucket).await?;
                self.seen.load(bucket, known);
            }
        }
        Ok(())
    }

    /// Records that are none: kept whole, counted, and out of the way of the others.
    async fn bury_bad(&mut self, bad: Vec<Bad>) -> Result<()> {
        let count = bad.len();
        let bad: Vec<Bad> = bad
            .into_iter()
            .filter(|bad| self.seen.insert(bad.mark.0, bad.mark.1))
            .collect();
        self.report.counts.duplicate += (count - bad.len()) as u64;
        let marks: Vec<Mark> = bad.iter().map(|bad| bad.mark).collect();
        let dead = bad.into_iter().map(|bad| (bad.text, bad.reason)).collect();
        self.bury(dead).await?;
        self.remember(&marks).await
    }

    async fn rows(&mut self, chunk: Arc<Chunk>, group: Vec<Found>) -> Result<()> {
        let looked = if self.job.source.looks_up() {
            let subjects: Vec<Subject> = group
                .iter()
                .map(|found| Subject {
                    facts: found.facts.clone(),
                    text: chunk.record(found.at).to_vec(),
                })
                .collect();
            self.job.source.look_up(&subjects, self.limits).await?
        } else {
            Vec::new()
        };
        let mapper = Arc::clone(&self.mapper);
        let now = self.parts.clock.now();
        let (mapped, without) = blocking(move || {
            let without = looked.iter().filter(|looked| looked.missing).count();
            (mapper.map(&chunk, &group, &looked, now), without)
        })
        .await?;
        self.report.without_details += without as u64;
        let mut rows = Vec::with_capacity(mapped.len());
        let mut originals = Vec::new();
        for Mapped {
            row,
            mark,
            original,
        } in mapped
        {
            originals.extend(original);
            rows.push((row, mark));
        }
        if !originals.is_empty() {
            self.parts.storage.keep(&originals).await?;
        }
        for (row, mark) in rows {
            if !self.batch.has_room_for(row.len()) {
                self.seal().await?;
            }
            self.batch.add(&row);
            self.marks.push(mark);
        }
        Ok(())
    }

    /// Sends the open batch on its way.
    async fn seal(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Batch::new(&self.job.table));
        let marks = std::mem::take(&mut self.marks);
        let lander = Arc::clone(&self.lander);
        let push = tokio::spawn(async move { (lander.land(batch).await, marks) });
        self.pushes.push_back(AbortOnDropHandle::new(push));
        self.sealed += 1;
        while self.pushes.len() >= PUSHES {
            let Some(push) = self.pushes.next().await else {
                break;
            };
            self.settle(push).await?;
        }
        Ok(())
    }

    /// A batch has come back: remembers its rows, and moves the cursor as far as they allow.
    async fn settle(
        &mut self,
        push: std::result::Result<(Landed, Vec<Mark>), tokio::task::JoinError>,
    ) -> Result<()> {
        let (landed, marks) = push.map_err(|_| Error::contract("a push stopped"))?;
        let settled = marks.get(..landed.settled()).unwrap_or(&marks);
        self.report.counts.landed += landed.rows as u64;
        self.report.counts.waiting += landed.parked as u64;
        self.bury(landed.dead).await?;
        self.remember(settled).await?;
        if let Some(error) = landed.error {
            self.broken = true;
            return Err(error);
        }
        self.landed += 1;
        (self.parts.progress)(self.report);
        self.advance().await
    }

    /// A move of the reader, due when all rows before it are safe.
    async fn follow(&mut self, change: Move) -> Result<()> {
        if matches!(change, Move::Page { .. } | Move::Slice { .. }) {
            self.report.pages += 1;
        }
        let ends_slice = matches!(change, Move::Slice { .. });
        let before = self.sealed + u64::from(!self.batch.is_empty());
        self.moves.push_back((before, change));
        if ends_slice {
            self.seal().await?;
        }
        (self.parts.progress)(self.report);
        self.advance().await
    }

    /// Saves the cursor behind an unbroken run of batches that have landed.
    async fn advance(&mut self) -> Result<()> {
        let mut moved = false;
        while let Some((_, change)) = self
            .moves
            .pop_front_if(|(before, _)| *before <= self.landed && !self.broken)
        {
            self.held.state.apply(&change, &self.job.pace);
            moved = true;
        }
        if moved {
            self.held.commit().await
        } else {
            Ok(())
        }
    }

    /// Waits for all that is under way. After a failed push nothing new is sent, and what lands
    /// behind it is remembered without moving the cursor.
    async fn settle_all(&mut self) -> Result<()> {
        let mut end = if self.broken {
            Ok(())
        } else {
            self.seal().await
        };
        while let Some(push) = self.pushes.next().await {
            end = end.and(self.settle(push).await);
        }
        end.and(self.prune().await)
    }

    async fn remember(&self, marks: &[Mark]) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut buckets: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (bucket, fingerprint) in marks {
            buckets.entry(*bucket).or_default().push(*fingerprint);
        }
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        if let Some(added) = buckets.remove(&UNDATED) {
            let [generation, _] = generations(self.began);
            let added = [(generation, added)];
            storage.add_fingerprints(&undated, &added).await?;
        }
        let added: Vec<(i64, Vec<u64>)> = buckets.into_iter().collect();
        if added.is_empty() {
            return Ok(());
        }
        storage.add_fingerprints(&dated, &added).await
    }

    async fn bury(&mut self, dead: Vec<(Vec<u8>, String)>) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let count = dead.len() as u64;
        let at = self.parts.clock.now();
        let letters: Vec<DeadLetter> = dead
            .into_iter()
            .map(|(body, reason)| DeadLetter {
                id: letter::id(&self.job.key, &body),
                key: self.job.key.clone(),
                table: self.job.table.clone(),
                at,
                reason,
                body,
            })
            .collect();
        self.parts.storage.bury(&letters).await?;
        self.report.counts.dead += count;
        Ok(())
    }

    async fn prune(&self) -> Result<()> {
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        if self.seen.missing([UNDATED]).is_empty() {
            let [_, oldest] = generations(self.began);
            storage.prune_fingerprints(&undated, oldest).await?;
        }
        let Some(good) = self.held.state.good else {
            return Ok(());
        };
        let needed = good - delta(self.job.pace.lookback) - KEPT_LONGER;
        storage
            .prune_fingerprints(&dated, bucket_of(Some(needed)))
            .await
    }

    /// The sets of fingerprints of this connection.
    fn sets(&self) -> [String; 2] {
        let name = self.job.source.endpoint().fingerprints;
        dedupe::sets(&self.job.key.connection, name)
    }
}

/// Work that would keep a thread from its other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::contract("mapping stopped; please report this with the record"))
}
