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
    filing::{self, Filing},
    land::{Landed, Lander},
    lease::Held,
    letter,
    map::{Bad, Found, Mapped, Mapper, Mark},
    read::Piece,
    report::Report,
    snapshot::{self, UNMARKED, Way},
};
use crate::{
    core::{
        batch::Batch,
        cursor::{Move, Open, Slice},
        dedupe::{Seen, bucket_of},
        page::Chunk,
        sift::Verdict,
        snapshot::Since,
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
    held: &'a mut Held<'h>,
    report: &'a mut Report,
    lander: Arc<Lander>,
    mapper: Arc<Mapper>,
    seen: Seen,
    /// What the last pass has seen, for streams that are read as a whole.
    known: snapshot::Seen,
    /// Of what something was sent, for settings that ask.
    sent: Seen,
    batch: Batch,
    /// One mark for each row of `batch`.
    marks: Vec<Mark>,
    /// What rows mean for what is known of machines.
    filing: Filing,
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
            held,
            report,
            lander: Arc::new(Lander::new(
                parts.clone(),
                limits.clone(),
                job.event_time,
                Some(job.key.clone()),
            )),
            mapper: Arc::new(Mapper::new(endpoint, &job.key, job.event_time, job.sifts)),
            seen: Seen::default(),
            known: snapshot::Seen::new(&job.key),
            sent: Seen::default(),
            batch: Batch::new(&job.table),
            marks: Vec::new(),
            filing: Filing::default(),
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
                    Some(Piece::Chunk(chunk, way)) => self.chunk(chunk, way).await?,
                    Some(Piece::Move(change)) => self.follow(change).await?,
                },
            }
        }
    }

    /// Records → facts → drop what was seen → look up → rows → batches.
    async fn chunk(&mut self, chunk: Chunk, way: Way) -> Result<()> {
        self.report.counts.pulled += chunk.len() as u64;
        self.report.bytes += chunk.bytes.len() as u64;
        let mapper = Arc::clone(&self.mapper);
        let (chunk, found, bad) = blocking(move || {
            let (found, bad) = mapper.identify(&chunk);
            (chunk, found, bad)
        })
        .await?;
        self.load_seen(bad.iter().map(|bad| bad.mark)).await?;
        self.bury_bad(bad).await?;
        let found = self.sifted(found).await?;
        let (fresh, met) = self.fresh(found, way).await?;

        let chunk = Arc::new(chunk);
        self.met(Arc::clone(&chunk), met).await?;
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

    /// Without what settings leave out.
    async fn sifted(&mut self, mut found: Vec<Found>) -> Result<Vec<Found>> {
        let set = format!("{}/sent", self.job.key);
        let sent = found.iter().filter_map(|found| found.sent);
        for bucket in self.sent.missing(sent.map(|(bucket, _)| bucket)) {
            let known = self.parts.storage.fingerprints(&set, bucket).await?;
            self.sent.load(bucket, known);
        }
        let pulled = found.len();
        let mut first: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        found.retain(|found| match (found.verdict, found.sent) {
            (Verdict::Drop, _) => false,
            (Verdict::UnlessSent, Some((bucket, id))) => self.sent.holds(bucket, id),
            (_, Some((bucket, id))) => {
                if self.sent.insert(bucket, id) {
                    first.entry(bucket).or_default().push(id);
                }
                true
            }
            (_, None) => true,
        });
        self.report.counts.filtered += (pulled - found.len()) as u64;
        // Before the rows are safe: to take too much for sent only sends a closing too many.
        if !first.is_empty() {
            let first: Vec<_> = first.into_iter().collect();
            self.parts.storage.add_fingerprints(&set, &first).await?;
        }
        Ok(found)
    }

    /// Those that are worth a row, and the places and ids of those that are as they were but for what
    /// does not count: between two passes each of them has just been seen by the source.
    async fn fresh(
        &mut self,
        mut found: Vec<Found>,
        way: Way,
    ) -> Result<(Vec<Found>, Vec<(usize, String)>)> {
        let mut met = Vec::new();
        let counts = &mut self.report.counts;
        match way {
            Way::Plain => found.iter_mut().for_each(|found| found.mark = UNMARKED),
            Way::Fingerprints => {
                self.load_seen(found.iter().map(|found| found.mark)).await?;
                let pulled = found.len();
                found.retain(|found| self.seen.insert(found.mark.0, found.mark.1));
                self.report.counts.duplicate += (pulled - found.len()) as u64;
            }
            Way::Snapshot(seeing) => {
                self.known.open(seeing, self.parts).await?;
                found.retain_mut(|found| {
                    let (since, mark) = self.known.judge(&found.facts.id, found.content);
                    found.mark = mark;
                    counts.unchanged += u64::from(since == Since::Unchanged);
                    counts.duplicate += u64::from(since == Since::Repeated);
                    if since == Since::Unchanged && !seeing.is_pass() {
                        met.push((found.at, found.facts.id.clone()));
                    }
                    since == Since::Changed
                });
            }
        }
        Ok((found, met))
    }

    /// Records whose rows are safe for long.
    async fn met(&self, chunk: Arc<Chunk>, met: Vec<(usize, String)>) -> Result<()> {
        if met.is_empty() || self.job.source.endpoint().asset.is_none() {
            return Ok(());
        }
        let mapper = Arc::clone(&self.mapper);
        let changes = blocking(move || mapper.assets(&chunk, &met)).await?;
        filing::file(changes, self.parts).await
    }

    async fn load_seen(&mut self, marks: impl Iterator<Item = Mark>) -> Result<()> {
        let set = self.set();
        for bucket in self.seen.missing(marks.map(|(bucket, _)| bucket)) {
            let known = self.parts.storage.fingerprints(&set, bucket).await?;
            self.seen.load(bucket, known);
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
            asset,
        } in mapped
        {
            originals.extend(original);
            rows.push((row, mark, asset));
        }
        if !originals.is_empty() {
            self.parts.storage.keep(&originals).await?;
        }
        for (row, mark, asset) in rows {
            if !self.batch.has_room_for(row.len()) {
                self.seal().await?;
            }
            self.filing.add(self.marks.len(), asset);
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
        self.filing.seal();
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
        let sealed = self.filing.first();
        let (landed, marks) = push.map_err(|_| Error::contract("a push stopped"))?;
        let settled = marks.get(..landed.settled()).unwrap_or(&marks);
        self.report.counts.landed += landed.rows as u64;
        self.report.counts.waiting += landed.parked as u64;
        let safe = sealed.of_rows(landed.settled());
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
        let before = self.sealed + u64::from(!self.batch.is_empty());
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
            self.known.open(seeing, self.parts).await?;
        }
        let gone = self.known.vanished(self.parts).await?;
        self.report.counts.gone += gone.len() as u64;
        let now = self.parts.clock.now();
        let rows = snapshot::gone_rows(endpoint, &self.job.key, &gone, began, now);
        for (row, id) in rows.into_iter().zip(&gone) {
            if !self.batch.has_room_for(row.len()) {
                self.seal().await?;
            }
            let connection = &self.job.key.connection;
            let asset = endpoint.asset.map(|asset| asset.gone(connection, id));
            self.filing.add(self.marks.len(), asset);
            self.batch.add(&row);
            self.marks.push(UNMARKED);
        }
        Ok(())
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
            self.known.write(self.parts).await?;
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

    async fn remember(&mut self, marks: &[Mark]) -> Result<()> {
        let marks = self.known.are_safe(marks);
        if marks.is_empty() {
            return Ok(());
        }
        let mut buckets: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (bucket, fingerprint) in marks {
            buckets.entry(bucket).or_default().push(fingerprint);
        }
        let added: Vec<(i64, Vec<u64>)> = buckets.into_iter().collect();
        self.parts
            .storage
            .add_fingerprints(&self.set(), &added)
            .await
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
            self.known.write(self.parts).await?;
            return self.known.prune(&self.held.state, self.parts).await;
        }
        let Some(good) = self.held.state.good else {
            return Ok(());
        };
        let needed = good - delta(self.job.pace.lookback) - KEPT_LONGER;
        self.parts
            .storage
            .prune_fingerprints(&self.set(), bucket_of(Some(needed)))
            .await
    }

    /// The set of fingerprints of this connection.
    fn set(&self) -> String {
        format!(
            "{}/{}",
            self.job.key.connection,
            self.job.source.endpoint().fingerprints
        )
    }
}

/// Work that would keep a thread from its other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::contract("mapping stopped; please report this with the record"))
}
