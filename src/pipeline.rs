//! One stream, one run: the walk of the data, readable from top to bottom.
//!
//! ```text
//! take the lease, load the cursor                                 lease
//!  → what comes next, from cursor and clock                       core::cursor
//!  → for each slice, for each page: ask, cut into chunks          read, cut
//!  → records → facts → drop what was seen → enrich → rows        write, core::mapping
//!  → batches → push, isolating what is refused                    write, land
//!  → save the cursor, after an unbroken run of rows that are safe write
//!  → report                                                       report, health
//! ```
//!
//! Reader and writer are two loops with a short channel between them: the next page is asked for as
//! soon as its token is known, while the rows of the last one are mapped and pushed. The reader
//! moves a plan, the writer moves the saved state by the same [`Transition`](crate::core::position::cursor::Transition)s,
//! each when it is due.
//!
//! **Invariant.** `pulled = landed + waiting + dead + duplicate + filtered + unchanged`, each record
//! counted once, and a cursor never passes a record that is in none of them. What an error cuts off
//! is counted as `again`: the cursor stays before it. Two runs can't both save. A record lands twice
//! only when an answer of the sink was lost, the process died between push and save, or two runs
//! overlapped.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    core::{
        mapping::{filter::Filter, layout::Layout},
        position::{
            cursor::{CLOCKS_DIFFER, StreamKey, StreamState},
            trend::TrendPoint,
            window::Pace,
        },
    },
    error::{Error, Kind, Result},
    io::{clock::SharedClock, expiry::Expiring, retry::Limits, wire::Random},
    sink::SharedSink,
    source::SharedSource,
    storage::{ETag, SharedStorage},
};

mod asset_changes;
mod bounds;
mod deliver;
pub mod health;
mod lease;
mod look;
mod own_rows;
mod raised;
mod read;
mod read_event;
mod report;
mod snapshot;
mod split;
mod write;

pub use crate::core::totals::Counts;
pub use bounds::{Bounds, LARGE_AT_ONCE};
pub use look::{look_through, read_through};
pub use report::{Outcome, Report};

pub(crate) use deliver::Deliverer;
pub(crate) use lease::{Held, Taken};

use deliver::outbox_is_full;
use read::Reader;
use write::{WriteEnd, Writer};

/// What every run works with.
#[derive(Clone)]
pub struct Parts {
    /// Where state is kept.
    pub storage: SharedStorage,
    /// Where rows go.
    pub sink: SharedSink,
    /// The time.
    pub clock: SharedClock,
    /// Numbers in `0.0..1.0`.
    pub random: Random,
    /// Name of the app on which it runs: without it, health rows of two apps are taken for those of one.
    pub app: Option<String>,
    /// The most bytes of rows that wait for the sink; above it nothing is pulled.
    pub outbox_max: u64,
    /// What bounds the memory of all streams together.
    pub bounds: Arc<Bounds>,
    /// Is told of every step.
    pub progress: Arc<dyn Fn(&Report) + Send + Sync>,
}

/// One stream to run.
#[derive(Clone)]
pub struct Job {
    /// Its name.
    pub key: StreamKey,
    /// Its source.
    pub source: SharedSource,
    /// The table of its rows: the endpoint's, unless it is routed to another.
    pub table: String,
    /// What they look like.
    pub layout: Layout,
    /// How it is read in time.
    pub pace: Pace,
    /// Rows carry the time of the event as `TimeGenerated`.
    pub event_time: bool,
    /// What it signs in with that ends one day.
    pub expiring: Arc<[Expiring]>,
    /// It runs even if its last run was a moment ago.
    pub at_once: bool,
    /// Which records settings leave out.
    pub filters: Arc<[Filter]>,
}

/// Chunks and moves that are read but not handled yet. With what reader and writer hold, this bounds
/// the memory of a run.
const AHEAD: usize = 4;

/// What a run has of what all streams of the process share, until its end.
#[derive(Default)]
struct Turn {
    /// It may read more than a first page.
    large: OnceLock<OwnedSemaphorePermit>,
    /// Why nothing could be asked all the while.
    waited: OnceLock<String>,
}

/// Runs a stream until it is up to date or the time is up. Errors are in the report.
pub async fn run(job: &Job, parts: &Parts, limits: &Limits) -> Report {
    let saved = parts.storage.load(&job.key).await;
    run_from(saved, job, parts, limits).await
}

/// Runs a stream from its state as it was loaded a moment ago.
pub async fn run_from(
    saved: Result<Option<(StreamState, ETag)>>,
    job: &Job,
    parts: &Parts,
    limits: &Limits,
) -> Report {
    let mut report = Report::new(job.key.clone(), parts.clock.now());
    // What a run holds is large, and so would be all that wait for it.
    let turn = Turn::default();
    let limits = &limits.counted_apart();
    let walk = Box::pin(walk(saved, job, parts, limits, &mut report, &turn));
    // A panic ends this stream alone; what it shares with others is guarded where it is shared.
    let end = AssertUnwindSafe(walk).catch_unwind().await;
    let end = end.unwrap_or_else(|_| {
        Err(Error::contract(format!(
            "{}: the run panicked; please report this with the log",
            job.key
        )))
    });
    report.end(end, parts.clock.now());
    if report.has_run() {
        health::write(&job.expiring, parts, &report).await;
    }
    (parts.progress)(&report);
    report
}

/// The report of a stream that can't be run at all, told as that of a run.
pub async fn refuse(key: StreamKey, error: Error, parts: &Parts) -> Report {
    let now = parts.clock.now();
    let mut report = Report::new(key, now);
    report.end(Err(error), now);
    health::write(&[], parts, &report).await;
    (parts.progress)(&report);
    report
}

async fn walk(
    saved: Result<Option<(StreamState, ETag)>>,
    job: &Job,
    parts: &Parts,
    limits: &Limits,
    report: &mut Report,
    turn: &Turn,
) -> Result<Outcome> {
    let mut held = with_page_read(Held::of(parts, &job.key, saved?)?, job)?;
    let mut is_old = true;
    let mut held = loop {
        if !job.at_once && held.state.is_fresh(job.pace.every, parts.clock.now()) {
            return Ok(Outcome::NotDue);
        }
        match held.take(limits).await? {
            Taken::Held(held) => break held,
            // Others may have come and gone since it was loaded.
            Taken::Busy(_) if is_old => {
                held = with_page_read(Held::load(parts, &job.key).await?, job)?;
                is_old = false;
            }
            Taken::Busy(lease) => {
                report.reason = Some(format!("{} holds it until {}", lease.owner, lease.until));
                return Ok(Outcome::Busy);
            }
        }
    };
    // Whoever finds the time or the source's patience used up by others keeps the place in the line.
    let last_turn = held.state.last_turn;
    let (now, rests_until) = (parts.clock.now(), job.source.rests_until());
    if now < limits.deadline && rests_until.is_none_or(|until| until <= now) {
        held.state.last_turn = Some(now);
    }
    let end = pull(job, parts, limits, &mut held, report, turn).await;
    if let Some(why) = turn.waited.get() {
        held.state.last_turn = last_turn;
        report.reason = Some(why.clone());
    }
    if let Ok(Outcome::Off) = end {
        report.reason.clone_from(&held.state.off_why);
        // Who never had it misses nothing; else somebody has to know that nothing comes.
        if held.state.has_worked() {
            report.error_kind = Some(Kind::Config);
        }
    }
    held.state.behind = matches!(end, Ok(Outcome::Behind));
    let now = parts.clock.now();
    if matches!(end, Ok(Outcome::Behind)) && report.reason.is_none() {
        report.reason = if limits.stop.is_cancelled() {
            Some("asked to stop; the next run goes on from here".to_owned())
        } else if now < limits.deadline {
            held.state.backlog.map(|backlog| {
                format!(
                    "the source does not offer windows of this stream; its feed goes on, and {} to \
                     {} is still to be read",
                    backlog.from, backlog.to
                )
            })
        } else {
            None
        };
    }
    report.lag_seconds = held
        .state
        .complete_until
        .map(|good| (now - good).num_seconds().max(0));
    report.gaps.clone_from(&held.state.gaps);
    let lag_minutes = report.lag_seconds.map(|lag| lag.unsigned_abs() / 60);
    let point = TrendPoint {
        rows: report.counts.landed + report.counts.waiting,
        bytes: report.row_bytes,
        lag_minutes,
        failed: end.is_err().into(),
    };
    held.state.trend.add(point, now);
    (report.calls, report.retries) = limits.calls.counted();
    let released = held.release(&end, report).await;
    end.and_then(|outcome| released.map(|()| outcome))
}

/// The state with its page as this stream reads it: storage can't know.
fn with_page_read<'a>(mut held: Held<'a>, job: &Job) -> Result<Held<'a>> {
    let endpoint = job.source.endpoint();
    held.state = held
        .state
        .with_page_read(&job.key, |slice| endpoint.paging(slice))?;
    Ok(held)
}

/// Reads and writes until the stream is up to date or the time is up.
async fn pull(
    job: &Job,
    parts: &Parts,
    limits: &Limits,
    held: &mut Held<'_>,
    report: &mut Report,
    turn: &Turn,
) -> Result<Outcome> {
    if held.state.paused.is_some() {
        return Ok(Outcome::Paused);
    }
    let rests = |until| !job.at_once && parts.clock.now() < until;
    // One that was switched off in the future was so by a clock that was wrong.
    let ahead = held
        .state
        .off
        .is_some_and(|off| off - parts.clock.now() >= CLOCKS_DIFFER);
    if !ahead && held.state.off_until.is_some_and(rests) {
        return Ok(Outcome::Off);
    }
    let (_, waiting) = parts.storage.outbox_size().await?;
    if waiting >= parts.outbox_max {
        return Err(outbox_is_full(waiting, parts.outbox_max));
    }
    let (pieces, incoming) = mpsc::channel(AHEAD);
    let reader = Reader::new(job, parts, limits, held.state.clone(), pieces, turn);
    let writer = Writer::new(job, parts, limits, held, report);
    // The reader owns the channel: when it is done, or fails, the writer settles what it has.
    let (read, written) = tokio::join!(reader.run(), writer.run(incoming));

    // A writer that ends early makes the reader fail to hand on; the writer knows the cause.
    if let WriteEnd::InPart = written? {
        return Ok(Outcome::Behind);
    }
    match read {
        // What the streams of a tenant share is used up: nobody failed, and the rest is asked for then.
        Err(error)
            if error.kind() == Kind::Transient
                && job
                    .source
                    .rests_until()
                    .is_some_and(|until| parts.clock.now() < until) =>
        {
            report.reason = Some(error.to_string());
            Ok(Outcome::Behind)
        }
        read => read,
    }
}
