//! The look: one answer, cut as a run would cut it, without a run.

use futures_util::TryStreamExt;

use super::{
    Job,
    read_event::ReadEvent,
    split::{BodyShape, Cut, Through},
};
use crate::{
    core::{
        json::chunk::Chunk,
        position::{
            cursor::{OpenSlice, Slice},
            dedupe::DedupMode,
            paging::{Frame, Tally},
        },
    },
    error::{Error, Result},
    io::{
        clock::{Clock, timeout},
        http::Response,
        retry::Limits,
    },
};

/// Reads a page to its end, hands on its chunks, and gives back what leads on from it.
///
/// # Errors
/// Whatever a run would say of the page: it breaks off, it is not JSON, or it is no answer to what
/// was asked.
pub async fn read_through(
    job: &Job,
    open: &OpenSlice,
    mode: DedupMode,
    response: Response,
    records: &'static str,
    mut each: impl FnMut(Chunk),
) -> Result<(Frame, Tally)> {
    let endpoint = job.source.endpoint();
    let shape = BodyShape::of(endpoint, &open.slice, &open.page, records);
    let mut cut = Cut::new(shape, mode, open, mode.hashes(endpoint));
    let mut body = response.body;
    let mut whole = Vec::new();
    let mut hand_on = |whole: &mut Vec<ReadEvent>| {
        for event in whole.drain(..) {
            if let ReadEvent::Chunk(chunk, _) = event {
                each(chunk);
            }
        }
    };
    let broken = |error| Error::transient(format!("the answer broke off: {error}"));
    while let Some(part) = body.try_next().await.map_err(broken)? {
        let mut rest = &*part;
        while cut.feed(&mut rest, &mut whole)? {
            hand_on(&mut whole);
        }
        hand_on(&mut whole);
    }
    let Through { frame, tally } = cut.finish(&mut whole)?;
    hand_on(&mut whole);
    Ok((frame, tally))
}

/// Reads the first page of a slice to its end, and says how many records it holds.
///
/// # Errors
/// As [`read_through`], or no part of it comes any more.
pub async fn look_through(
    job: &Job,
    slice: Slice,
    response: Response,
    records: &'static str,
    limits: &Limits,
    clock: &dyn Clock,
) -> Result<u64> {
    let open = OpenSlice::new(slice, clock.now());
    let read = read_through(job, &open, DedupMode::Plain, response, records, |_| {});
    let left = (limits.deadline - clock.now()).to_std();
    timeout(clock, left.unwrap_or_default(), read)
        .await
        .unwrap_or_else(|_| Err(Error::transient("the answer stopped coming")))
        .map(|(_, tally)| tally.count())
}
