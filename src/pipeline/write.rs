//! The writer: records → rows → batches → sink, and the cursor behind them.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Job, Parts,
    filing::{self, Sealed},
    land::{Landed, Lander},
    lease::Held,
    letter,
    map::{Desk, Found, Mapper, Mark, Sifted},
    read::Piece,
    report::Report,
    snapshot::{self, UNMARKED, Way},
};
use crate::{
    core::{
        batch::Batch,
        chunk::Chunk,
        cursor::{Move, Open, Slice},
        dedupe::{self, UNDATED, bucket_of, generations},
        window::delta,
    },
    error::{Error, Result},
    io::exchange::Limits,
    source::Subject,
    storage::DeadLetter,
};

/// Pushes under way while rows are made for the next one: so many that a service which takes a
/// twentieth of a second for each keeps up with pages that take as long, and become three each.
const PUSHES: usize = 6;

/// Batches under way that are whole: rows are made faster than they are compressed.
const ROOMS: usize = 2;

/// Records that are looked up together: so many are safe even if the time ends with the next ones.
const LOOKED_UP_TOGETHER: usize = 100;

/// How long fingerprints are kept beyond what the lookback of their stream needs: streams that share
/// a set may be that far apart.
const KEPT_LONGER: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// Fingerprints that are held between two chunks: three quarters of a megabyte, or a bucket.
const HELD_FINGERPRINTS: usize = 96 << 10;

/// A batch under way to the sink.
type Push = AbortOnDropHandle<Landed>;

pub(super) struct Writer<'a, 'h> {
    job: &'a Job,
    parts: &'a Parts,
    limits: &'a Limits,
    began: DateTime<Utc>,
    held: &'a mut Held<'h>,
    report: &'a mut Report,
    lander: Arc<Lander>,
    mapper: Mapper,
    desk: Desk,
    pushes: FuturesOrdered<Push>,
    /// For batches that are not compressed yet.
    rooms: Arc<Semaphore>,
    /// What is remembered of the rows under way.
    under_way: VecDeque<Sealed>,
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
            mapper: Mapper::new(
                endpoint,
                &job.layout,
                &job.key,
                job.event_time,
                job.source.looks_up(),
                job.sifts,
            ),
            desk: Desk::new(&job.table, &job.key),
            pushes: FuturesOrdered::new(),
            rooms: Arc::new(Semaphore::new(ROOMS)),
            under_way: VecDeque::new(),
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
                    Some(Piece::Chunk(chunk, way)) => self.chunk(chunk, way).await?,
                    Some(Piece::Move(change)) => self.follow(change).await?,
                },
            }
        }
    }

    /// Records → facts → drop what was seen → look up → rows → batches.
    async fn chunk(&mut self, chunk: Chunk, way: Way) -> Result<()> {
        self.report.counts.pulled += chunk.len() as u64;
        self.report.bytes += chunk.size() as u64;
        if let Way::Snapshot(seeing) = way {
            self.desk.known.open(seeing, self.parts).await?;
        }
        let now = self.parts.clock.now();
        let mut next = 0;
        loop {
            let sifted =
                self.at_the_desk(|mapper, desk| mapper.sift(&chunk, next, way, desk, now))?;
            self.count();
            filing::file(std::mem::take(&mut self.desk.met), self.parts).await?;
            self.remember_sent().await?;
            self.bury_bad().await?;
            self.send_full().await?;
            match sifted {
                Sifted::All => break,
                Sifted::Until(at, bucket) => {
                    self.load(bucket).await?;
                    next = at;
                }
                Sifted::UntilSent(at, bucket) => {
                    let known = self
                        .parts
                        .storage
                        .fingerprints(&self.sent(), bucket)
                        .await?;
                    self.desk.sent.load(bucket, known);
                    next = at;
                }
            }
        }
        let mut fresh = std::mem::take(&mut self.desk.fresh).into_iter().peekable();
        while fresh.peek().is_some() {
            let group: Vec<Found> = fresh.by_ref().take(LOOKED_UP_TOGETHER).collect();
            self.look_up(&chunk, group).await?;
        }
        self.desk.seen.trim(HELD_FINGERPRINTS);
        self.desk.sent.trim(HELD_FINGERPRINTS);
        Ok(())
    }

    fn count(&mut self) {
        let counted = std::mem::take(&mut self.desk.counts);
        let counts = &mut self.report.counts;
        counts.duplicate += counted.duplicate;
        counts.filtered += counted.filtered;
        counts.unchanged += counted.unchanged;
    }

    /// Before the rows are safe: to take too much for sent only sends a closing too many.
    async fn remember_sent(&mut self) -> Result<()> {
        let first: Vec<_> = std::mem::take(&mut self.desk.first).into_iter().collect();
        if first.is_empty() {
            return Ok(());
        }
        let set = self.sent();
        self.parts.storage.add_fingerprints(&set, &first).await
    }

    /// Runs `work` at the desk. A chunk takes a fraction of a millisecond: to hand it to another
    /// thread, where it waits behind batches that are compressed, costs more.
    fn at_the_desk<T>(&mut self, work: impl FnOnce(&Mapper, &mut Desk) -> T) -> Result<T> {
        let (mapper, desk) = (&self.mapper, &mut self.desk);
        catch_unwind(AssertUnwindSafe(|| work(mapper, desk))).map_err(|_| {
            // Nobody knows what the open batch holds now: nothing behind it may move the cursor.
            self.broken = true;
            Error::contract("mapping stopped; please report this with the record")
        })
    }

    async fn load(&mut self, bucket: i64) -> Result<()> {
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        let mut stored = Vec::new();
        if bucket == UNDATED {
            for generation in generations(self.began) {
                stored.extend(storage.fingerprints(&undated, generation).await?);
            }
        } else {
            stored = storage.fingerprints(&dated, bucket).await?;
        }
        let under_way = self.under_way.iter().flat_map(|sealed| &sealed.marks);
        self.desk.load(bucket, stored, under_way);
        Ok(())
    }

    /// Records that are none: kept whole, counted, and out of the way of the others.
    async fn bury_bad(&mut self) -> Result<()> {
        let bad = std::mem::take(&mut self.desk.bad);
        let marks: Vec<Mark> = bad.iter().map(|bad| bad.mark).collect();
        let dead = bad.into_iter().map(|bad| (bad.text, bad.reason)).collect();
        self.bury(dead).await?;
        self.remember(&marks).await
    }

    async fn look_up(&mut self, chunk: &Chunk, group: Vec<Found>) -> Result<()> {
        let subjects: Vec<Subject> = group
            .iter()
            .map(|found| Subject {
                facts: found.facts.clone(),
                text: chunk.record(found.at).to_vec(),
            })
            .collect();
        let looked = self.job.source.look_up(&subjects, self.limits).await?;
        self.report.without_details += looked.iter().filter(|looked| looked.missing).count() as u64;
        let now = self.parts.clock.now();
        self.at_the_desk(|mapper, desk| mapper.map(chunk, &group, &looked, now, desk))?;
        self.send_full().await
    }

    /// Sends the full batches on their way, once what their rows leave out is kept.
    async fn send_full(&mut self) -> Result<()> {
        if !self.desk.originals.is_empty() {
            self.parts.storage.keep(&self.desk.originals).await?;
            self.desk.originals.clear();
        }
        while let Some((batch, sealed)) = self.desk.full.pop_front() {
            self.send(batch, sealed).await?;
        }
        Ok(())
    }

    /// Sends the open batch on its way.
    async fn seal(&mut self) -> Result<()> {
        if self.desk.batch.is_empty() {
            return Ok(());
        }
        let (batch, sealed) = self.desk.take_batch();
        self.send(batch, sealed).await
    }

    /// Sends a batch on its way, and waits while too many are.
    async fn send(&mut self, batch: Batch, sealed: Sealed) -> Result<()> {
        // Never closed.
        let room = Arc::clone(&self.rooms).acquire_owned().await.ok();
        let lander = Arc::clone(&self.lander);
        let push = tokio::spawn(async move { lander.land(batch, room).await });
        self.pushes.push_back(AbortOnDropHandle::new(push));
        self.under_way.push_back(sealed);
        self.sealed += 1;
        while self.pushes.len() > PUSHES {
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
        push: std::result::Result<Landed, tokio::task::JoinError>,
    ) -> Result<()> {
        let mut sealed = self.under_way.pop_front().unwrap_or_default();
        let landed = push.map_err(|_| Error::contract("a push stopped"))?;
        let safe = sealed.changes_of(landed.settled());
        let marks = &sealed.marks;
        let settled = marks.get(..landed.settled()).unwrap_or(marks);
        self.report.counts.landed += landed.rows as u64;
        self.report.counts.waiting += landed.parked as u64;
        self.bury(landed.dead).await?;
        // Before their records count as handled: what is not known of a machine now would not be
        // known until the record changes again.
        if let Err(error) = filing::file(safe, self.parts).await {
            self.broken = true;
            return Err(error);
        }
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
        if let Move::Slice {
            slice: Slice::Pass,
            began,
            ..
        } = change
        {
            self.pass_ended(began).await?;
        }
        let before = self.sealed + u64::from(!self.desk.batch.is_empty());
        self.moves.push_back((before, change));
        if ends_slice {
            self.seal().await?;
        }
        (self.parts.progress)(self.report);
        self.advance().await
    }

    /// Rows for what has vanished since the pass before this one.
    async fn pass_ended(&mut self, began: DateTime<Utc>) -> Result<()> {
        let endpoint = self.job.source.endpoint();
        if endpoint.snapshot.is_none() {
            return Ok(());
        }
        // A pass that found nothing has not been compared with anything yet.
        let open = Open::of_pass(began);
        if let Way::Snapshot(seeing) = Way::of(endpoint, &self.held.state, &open, &self.job.pace) {
            self.desk.known.open(seeing, self.parts).await?;
        }
        let gone = self.desk.known.vanished(self.parts).await?;
        self.report.counts.gone += gone.len() as u64;
        let now = self.parts.clock.now();
        let rows = snapshot::gone_rows(endpoint, &self.job.key, &gone, began, now);
        for (row, id) in rows.into_iter().zip(&gone) {
            let connection = &self.job.key.connection;
            let asset = endpoint.asset.map(|asset| asset.gone(connection, id));
            self.desk.add_row(&row, UNMARKED, asset);
        }
        self.send_full().await
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
            self.desk.known.write(self.parts).await?;
            self.held.commit().await
        } else {
            Ok(())
        }
    }

    /// Waits for all that is under way. After a failed push nothing new is sent, and what lands
    /// behind it is remembered without moving the cursor.
    async fn settle_all(&mut self) -> Result<()> {
        // The open batch must not overtake rows that were cut off before it.
        let is_next = self.desk.full.is_empty() && self.desk.originals.is_empty();
        let mut end = if self.broken || !is_next {
            Ok(())
        } else {
            self.seal().await
        };
        while let Some(push) = self.pushes.next().await {
            end = end.and(self.settle(push).await);
        }
        end.and(self.prune().await)
    }

    async fn remember(&mut self, marks: &[Mark]) -> Result<()> {
        let marks = self.desk.known.are_safe(marks);
        if marks.is_empty() {
            return Ok(());
        }
        let mut buckets: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (bucket, fingerprint) in marks {
            buckets.entry(bucket).or_default().push(fingerprint);
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

    async fn prune(&mut self) -> Result<()> {
        if self.job.source.endpoint().snapshot.is_some() {
            // What came back behind a failure is safe as well.
            self.desk.known.write(self.parts).await?;
            return self.desk.known.prune(&self.held.state, self.parts).await;
        }
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        if self.desk.seen.has(UNDATED) {
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

    /// The set of what something was sent of.
    fn sent(&self) -> String {
        format!("{}/sent", self.job.key)
    }

    /// The sets of fingerprints of this connection.
    fn sets(&self) -> [String; 2] {
        let name = self.job.source.endpoint().fingerprints;
        dedupe::sets(&self.job.key.connection, name)
    }
}
