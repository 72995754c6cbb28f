//! The look: one answer, cut as a run would cut it, and nothing kept of it.

use futures_util::TryStreamExt;

use super::{
    Job,
    snapshot::DedupMode,
    split::{BodyShape, Cut},
};
use crate::{
    core::position::cursor::{OpenSlice, Slice},
    error::{Error, Result},
    io::{
        clock::{Clock, timeout},
        exchange::Limits,
        http::Response,
    },
};

/// Records are cut into chunks of about so many bytes.
const CHUNK: usize = 64 << 10;

/// Reads the first page of a slice to its end, and says how many records it holds.
///
/// # Errors
/// Whatever a run would say of the page: it breaks off, it is not JSON, or it is no answer to what
/// was asked.
pub async fn look_through(
    job: &Job,
    slice: Slice,
    response: Response,
    records: &'static str,
    limits: &Limits,
    clock: &dyn Clock,
) -> Result<u64> {
    let shape = BodyShape::of(job.source.endpoint(), &slice, "", records);
    let open = OpenSlice {
        slice,
        page: String::new(),
        began: clock.now(),
    };
    let mut cut = Cut::new(shape, DedupMode::Plain, &open, CHUNK, false);
    let mut body = response.body;
    let read = async {
        let mut whole = Vec::new();
        let broken = |error| Error::transient(format!("the answer broke off: {error}"));
        while let Some(part) = body.try_next().await.map_err(broken)? {
            let mut rest = &*part;
            while cut.feed(&mut rest, &mut whole)? {
                whole.clear();
            }
            whole.clear();
        }
        cut.finish(&mut whole).map(|through| through.tally.count())
    };
    let left = (limits.deadline - clock.now()).to_std();
    timeout(clock, left.unwrap_or_default(), read)
        .await
        .unwrap_or_else(|_| Err(Error::transient("the answer stopped coming")))
}
