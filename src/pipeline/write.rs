//! The writer: records → rows → batches → sink, and the cursor behind them.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{
    Job, Parts, asset_changes,
    bounds::OpenShare,
    deliver::{Deliverer, Delivery},
    lease::Held,
    raised::{self, Noted},
    read::CUT_SHORT,
    read_event::ReadEvent,
    report::Report,
    snapshot::{PassLogs, Vanished},
};
use crate::storage::dead_letter;
use crate::{
    core::{
        json::chunk::Chunk,
        mapping::{
            batch::Batch,
            mapper::{Mapper, Selected},
            receipt::{BatchReceipt, Receipt},
            workset::{NewRecord, Workset},
        },
        metrics::TRACED,
        position::{
            cursor::{OpenSlice, Slice, Transition},
            dedupe::{self, DedupMode, UNDATED, bucket_of, generations},
            snapshot::gone_row,
            window::delta,
        },
    },
    error::{Error, Kind, Result},
    io::{retry::Limits, trail::SpanLink},
    source::Enriched,
    storage::DeadLetter,
};

/// Pushes under way while rows are made for the next one. A page becomes about three pushes, and a push
/// takes about as long as a page: with fewer, pages would wait.
const PUSHES: usize = 6;

/// Rows that took longer to enrich are sent at once: what was found out is safe even if the process
/// ends with the next ones.
const SENT_WITHIN: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

/// The ends of a writer that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// Everything that was handed on is handled.
    Whole,
    /// The time ended while records were enriched: the next run goes on with the rest.
    InPart,
}

/// The most pages that a batch is said to come from: the SDK keeps as many links of a span.
const MOST_PAGES: usize = 128;

/// How long fingerprints are kept beyond what the lookback of their stream needs: streams that share
/// a set may be that far apart.
const KEPT_LONGER: chrono::TimeDelta = chrono::TimeDelta::days(30);

/// Fingerprints that are held between two chunks: three quarters of a megabyte, or a bucket.
const HELD_FINGERPRINTS: usize = 96 << 10;

/// A batch under way to the sink.
type Push = AbortOnDropHandle<Delivery>;

pub(super) struct Writer<'a, 'h> {
    job: &'a Job,
    parts: &'a Parts,
    limits: &'a Limits,
    began: DateTime<Utc>,
    held: &'a mut Held<'h>,
    report: &'a mut Report,
    lander: Arc<Deliverer>,
    mapper: Mapper,
    workset: Workset,
    passes: PassLogs,
    pushes: FuturesOrdered<Push>,
    /// Bytes of the open batch, among those of all streams.
    open: OpenShare,
    /// What is remembered of the rows under way.
    under_way: VecDeque<BatchReceipt>,
    /// Batches that were sealed, and of these the ones that have landed.
    sealed: u64,
    landed: u64,
    /// Moves, each with how many batches must have landed before it.
    moves: VecDeque<(u64, Transition)>,
    /// A push failed: nothing behind it may move the cursor.
    broken: bool,
    /// A record was enriched in this run.
    has_enriched: bool,
    /// Fingerprints were added in this run: there may be some that nobody needs any more.
    has_added: bool,
    /// Records that were pulled when the cursor was saved last; none while a move since then waits.
    saved_at: Option<u64>,
    /// Whose alerts are is remembered, where incidents come without theirs.
    noted: Option<Noted>,
    /// The pages whose rows the next batch carries, where it is traced.
    pages: Vec<SpanLink>,
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
            lander: Arc::new(Deliverer::new(
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
                job.source.enriches(),
                &job.filters,
            ),
            workset: Workset::new(&job.table),
            passes: PassLogs::new(&job.key, &parts.storage),
            pushes: FuturesOrdered::new(),
            open: parts.bounds.share(),
            under_way: VecDeque::new(),
            sealed: 0,
            landed: 0,
            moves: VecDeque::new(),
            broken: false,
            has_enriched: false,
            has_added: false,
            saved_at: Some(0),
            noted: None,
            pages: Vec::new(),
        }
    }

    /// Handles what the reader hands on, until it stops. What was handled before an error is safe
    /// afterwards, as far as the sink takes it.
    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<ReadEvent>) -> Result<WriteEnd> {
        let worked = self.work(&mut incoming).await;
        drop(incoming);
        let settled = self.settle_all().await;
        let written = worked?;
        settled.map(|()| written)
    }

    async fn work(&mut self, incoming: &mut mpsc::Receiver<ReadEvent>) -> Result<WriteEnd> {
        loop {
            tokio::select! {
                biased;
                Some(push) = self.pushes.next() => self.settle(push).await?,
                piece = incoming.recv() => match piece {
                    None => return self.enrich_groups(true).await,
                    Some(ReadEvent::Chunk(chunk, mode)) => {
                        // Nothing behind what is cut off may move the cursor.
                        if self.chunk(chunk, mode).await? == WriteEnd::InPart {
                            return Ok(WriteEnd::InPart);
                        }
                    }
                    Some(ReadEvent::Page(page)) => {
                        // Many may bring nothing for a batch.
                        self.pages.truncate(MOST_PAGES - 1);
                        self.pages.push(page);
                    }
                    Some(ReadEvent::Transition(change)) => {
                        if self.enrich_groups(true).await? == WriteEnd::InPart {
                            return Ok(WriteEnd::InPart);
                        }
                        self.follow(change).await?;
                    }
                },
            }
        }
    }

    /// Records → facts → drop what was seen → enrich → rows → batches.
    async fn chunk(&mut self, chunk: Chunk, mode: DedupMode) -> Result<WriteEnd> {
        if self.report.counts.pulled == 0 {
            // With the first records: an idle stream needs none of it.
            self.noted = Noted::of(self.job, self.parts, self.began).await?;
            self.workset.raised = raised::of_alerts(self.job, self.parts, self.began).await?;
        }
        self.report.counts.pulled += chunk.len() as u64;
        self.report.bytes += chunk.size() as u64;
        if let DedupMode::Snapshot(view) = mode {
            self.passes.open(&mut self.workset.known, view).await?;
        }
        if let Some(noted) = &mut self.noted {
            noted.note(&chunk, self.parts).await?;
        }
        let now = self.parts.clock.now();
        let chunk = Arc::new(chunk);
        let mut next = 0;
        loop {
            let selected = self.through_the_workset(|mapper, workset| {
                mapper.select(&chunk, next, mode, workset, now)
            })?;
            self.count();
            asset_changes::apply(std::mem::take(&mut self.workset.met), self.parts).await?;
            self.remember_sent().await?;
            self.bury_bad().await?;
            self.send_full().await?;
            match selected {
                Selected::All => break,
                Selected::NeedsSeen(at, bucket) => {
                    self.load(bucket).await?;
                    next = at;
                }
                Selected::NeedsSent(at, bucket) => {
                    let known = self
                        .parts
                        .storage
                        .fingerprints(&self.sent(), bucket)
                        .await?;
                    self.workset.sent.load(bucket, known);
                    next = at;
                }
            }
        }
        let end = self.enrich_groups(false).await?;
        if self.open.holds(self.workset.batch.bytes()) {
            self.seal().await?;
        }
        self.workset.seen.trim(HELD_FINGERPRINTS);
        self.workset.sent.trim(HELD_FINGERPRINTS);
        Ok(end)
    }

    /// Enriches the records that wait, as many at once as one call answers; with `all` also those that
    /// are fewer. Nothing moves the cursor before them.
    async fn enrich_groups(&mut self, all: bool) -> Result<WriteEnd> {
        loop {
            let together = self.job.source.together(self.held.state.listed).max(1);
            if self.workset.fresh.len() < if all { 1 } else { together } {
                return Ok(WriteEnd::Whole);
            }
            let next = together.min(self.workset.fresh.len());
            let later = self.workset.fresh.split_off(next);
            let group = std::mem::replace(&mut self.workset.fresh, later);
            let done = self.enrich(&group).await?;
            if done < group.len() {
                // The next run reads them again.
                let rest = group.len() - done + self.workset.fresh.len();
                self.report.counts.pulled -= rest as u64;
                return Ok(WriteEnd::InPart);
            }
        }
    }

    fn count(&mut self) {
        let counted = std::mem::take(&mut self.workset.counts);
        let counts = &mut self.report.counts;
        counts.duplicate += counted.duplicate;
        counts.filtered += counted.filtered;
        counts.unchanged += counted.unchanged;
        self.report.untold += counted.untold;
    }

    /// Before the rows are safe: to take too much for sent only sends a closing too many.
    async fn remember_sent(&mut self) -> Result<()> {
        let first: Vec<_> = std::mem::take(&mut self.workset.first)
            .into_iter()
            .collect();
        if first.is_empty() {
            return Ok(());
        }
        let set = self.sent();
        self.parts.storage.add_fingerprints(&set, &first).await
    }

    /// Runs `work` at the workset. A chunk takes a fraction of a millisecond: to hand it to another
    /// thread, where it waits behind batches that are compressed, costs more.
    fn through_the_workset<T>(
        &mut self,
        work: impl FnOnce(&Mapper, &mut Workset) -> T,
    ) -> Result<T> {
        let (mapper, workset) = (&self.mapper, &mut self.workset);
        catch_unwind(AssertUnwindSafe(|| work(mapper, workset))).map_err(|_| {
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
        let under_way = self.under_way.iter().flat_map(|sealed| &sealed.receipts);
        self.workset.load(bucket, stored, under_way);
        Ok(())
    }

    /// Records that are none: kept whole, counted, and out of the way of the others.
    async fn bury_bad(&mut self) -> Result<()> {
        let bad = std::mem::take(&mut self.workset.bad);
        let receipts: Vec<Receipt> = bad.iter().map(|bad| bad.receipt).collect();
        let dead = bad.into_iter().map(|bad| (bad.text, bad.reason)).collect();
        self.bury(dead).await?;
        self.remember(&receipts).await
    }

    /// Enriches records and makes their rows: all of them, or as many as the time was enough for.
    async fn enrich(&mut self, group: &[NewRecord]) -> Result<usize> {
        let asked = self.parts.clock.now();
        let requests = self.mapper.requests(group);
        let known = self.held.state.listed;
        let source = &self.job.source;
        let Enriched {
            found,
            stopped,
            listed,
        } = source.enrich(&requests, known, self.limits).await;
        drop(requests);
        self.held.state.listed = listed.or(known);
        let missing = found.iter().filter(|found| found.missing).count();
        self.report.without_details += missing as u64;
        self.has_enriched |= !found.is_empty();
        let now = self.parts.clock.now();
        self.through_the_workset(|mapper, workset| mapper.map(group, &found, now, workset))?;
        self.send_full().await?;
        if now - asked >= SENT_WITHIN {
            self.seal().await?;
        }
        match stopped {
            Some(error) if self.was_cut_short(&error, asked, !found.is_empty()) => {
                tracing::info!(%error, "the time is up");
                Ok(found.len())
            }
            Some(error) => Err(error),
            None => Ok(group.len()),
        }
    }

    /// True when the end of the run came while the source was answering: nobody failed. A source that
    /// has answered nothing, or not for long, says what held it up.
    fn was_cut_short(&self, error: &Error, asked: DateTime<Utc>, answered: bool) -> bool {
        let now = self.parts.clock.now();
        let answers = answered || self.has_enriched && now - asked < CUT_SHORT;
        let stops = self.limits.stop.is_cancelled();
        error.kind() == Kind::Transient && (stops || answers && now >= self.limits.deadline)
    }

    /// Sends the full batches on their way, once what their rows leave out is kept.
    async fn send_full(&mut self) -> Result<()> {
        if !self.workset.originals.is_empty() {
            self.parts.storage.keep(&self.workset.originals).await?;
            self.workset.originals.clear();
        }
        while let Some((batch, sealed)) = self.workset.full.pop_front() {
            self.send(batch, sealed).await?;
        }
        Ok(())
    }

    /// Sends the open batch on its way.
    async fn seal(&mut self) -> Result<()> {
        if self.workset.batch.is_empty() {
            return Ok(());
        }
        let (batch, sealed) = self.workset.take_batch();
        self.open.holds(0);
        self.send(batch, sealed).await
    }

    /// Sends a batch on its way, and waits while too many are.
    async fn send(&mut self, batch: Batch, sealed: BatchReceipt) -> Result<()> {
        // Never closed.
        let room = Arc::clone(&self.parts.bounds.rooms)
            .acquire_owned()
            .await
            .ok();
        let lander = Arc::clone(&self.lander);
        let span = tracing::info_span!(
            target: TRACED,
            "deliver",
            table = batch.table(),
            rows = batch.len(),
            bytes = batch.bytes(),
        );
        for page in &self.pages {
            page.link(&span);
        }
        // The last one goes on in the next batch.
        self.pages.drain(..self.pages.len().saturating_sub(1));
        let push = async move { lander.land(batch, room).await }.instrument(span);
        let push = tokio::spawn(push);
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
        push: std::result::Result<Delivery, tokio::task::JoinError>,
    ) -> Result<()> {
        let mut sealed = self.under_way.pop_front().unwrap_or_default();
        let landed = push.map_err(|_| Error::contract("a push stopped"))?;
        let safe = sealed.changes_of(landed.settled());
        let receipts = &sealed.receipts;
        let settled = receipts.get(..landed.settled()).unwrap_or(receipts);
        self.report.counts.landed += landed.rows as u64;
        self.report.counts.waiting += landed.parked as u64;
        self.report.row_bytes += landed.bytes as u64;
        if self.report.waits_for.is_none() {
            self.report.waits_for = landed.waits_for;
        }
        self.bury(landed.dead).await?;
        // Before their records count as handled: what is not known of a machine now would not be
        // known until the record changes again.
        if let Err(error) = asset_changes::apply(safe, self.parts).await {
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
    async fn follow(&mut self, change: Transition) -> Result<()> {
        if matches!(change, Transition::Page { .. } | Transition::Slice { .. }) {
            self.report.pages += 1;
        }
        let ends_slice = matches!(change, Transition::Slice { .. });
        if let Transition::Slice {
            slice: Slice::Pass,
            began,
            ..
        } = change
        {
            let judged = self.pass_ended(began).await?;
            let before = self.sealed + u64::from(!self.workset.batch.is_empty());
            self.moves.extend(judged.map(|judged| (before, judged)));
        }
        if let Transition::Outside { count, .. } = change {
            self.report.outside += count;
        }
        let before = self.sealed + u64::from(!self.workset.batch.is_empty());
        self.moves.push_back((before, change));
        if ends_slice {
            self.seal().await?;
        }
        (self.parts.progress)(self.report);
        self.advance().await
    }

    /// Rows for what has vanished since the pass before this one, and how far the pass is believed,
    /// where that is news.
    async fn pass_ended(&mut self, began: DateTime<Utc>) -> Result<Option<Transition>> {
        let endpoint = self.job.source.endpoint();
        if endpoint.snapshot.is_none() {
            return Ok(None);
        }
        // A pass that found nothing has not been compared with anything yet.
        let open = OpenSlice::of_pass(began);
        let known = &mut self.workset.known;
        if let DedupMode::Snapshot(view) =
            DedupMode::of(endpoint, &self.held.state, &open, &self.job.pace)
        {
            self.passes.open(known, view).await?;
        }
        let doubted = self.held.state.doubted;
        let Vanished { gone, missed } = self.passes.vanished(known, doubted).await?;
        let judged = match missed {
            Some((missed, there)) => {
                tracing::warn!(
                    missed,
                    there,
                    "a pass missed much of what was there: none is called gone"
                );
                Some(Transition::PassMissed {
                    missed,
                    there,
                    began,
                })
            }
            None => doubted.map(|_| Transition::PassWhole),
        };
        self.report.counts.gone += gone.len() as u64;
        let now = self.parts.clock.now();
        let key = &self.job.key;
        for id in &gone {
            let row = gone_row(endpoint.provider, key, id, began, now);
            let asset = endpoint.asset.map(|asset| asset.gone(&key.connection, id));
            self.workset.add_row(&row, Receipt::None, asset);
        }
        self.send_full().await?;
        Ok(judged)
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
        if !moved {
            return Ok(());
        }
        self.report.unread = self.held.state.unread(self.parts.clock.now());
        self.passes.write(&mut self.workset.known).await?;
        let pulled = self.report.counts.pulled;
        // One move over no records, as an idle stream makes, is saved with the end of the lease: to ask
        // again costs a call. What is dropped behind a pass needs its place saved before.
        let is_empty =
            self.saved_at == Some(pulled) && self.job.source.endpoint().snapshot.is_none();
        if is_empty {
            self.saved_at = None;
            return Ok(());
        }
        self.held.commit().await?;
        self.saved_at = Some(pulled);
        Ok(())
    }

    /// Waits for all that is under way. After a failed push nothing new is sent, and what lands
    /// behind it is remembered without moving the cursor.
    async fn settle_all(&mut self) -> Result<()> {
        // The open batch must not overtake rows that were cut off before it.
        let is_next = self.workset.full.is_empty() && self.workset.originals.is_empty();
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

    async fn remember(&mut self, receipts: &[Receipt]) -> Result<()> {
        let mut buckets: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for receipt in receipts {
            match *receipt {
                Receipt::None => {}
                Receipt::Fingerprint { bucket, hash } => {
                    buckets.entry(bucket).or_default().push(hash);
                }
                Receipt::Snapshot(id) => self.workset.known.is_safe(id),
            }
        }
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        if let Some(added) = buckets.remove(&UNDATED) {
            self.has_added = true;
            let [generation, _] = generations(self.began);
            let added = [(generation, added)];
            storage.add_fingerprints(&undated, &added).await?;
        }
        let added: Vec<(i64, Vec<u64>)> = buckets.into_iter().collect();
        if added.is_empty() {
            return Ok(());
        }
        self.has_added = true;
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
                id: dead_letter::id(&self.job.key, &body),
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
            self.passes.write(&mut self.workset.known).await?;
            return self.passes.prune(&self.held.state).await;
        }
        if !self.has_added {
            return Ok(());
        }
        let storage = &self.parts.storage;
        let [dated, undated] = self.sets();
        if self.workset.seen.has(UNDATED) {
            let [_, oldest] = generations(self.began);
            storage.prune_fingerprints(&undated, oldest).await?;
        }
        let Some(good) = self.held.state.complete_until else {
            return Ok(());
        };
        let pace = &self.job.pace;
        let mut needed = good - delta(pace.lookback.max(pace.sweep)) - KEPT_LONGER;
        // A source that gives what it was not asked for gives it again in each run.
        if self.report.outside > 0 {
            return Ok(());
        }
        if let Some(outside) = self.held.state.outside
            && self.began - outside.last < KEPT_LONGER
        {
            needed = needed.min(outside.oldest);
        }
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
