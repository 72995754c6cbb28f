//! How much each stream will bring: a few calls each, and no cursor moves.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::sample;
use crate::{
    app::App,
    check::volume::{
        Estimate, PageStatistics, Part, Total, of_count, of_day, of_export, of_snapshot,
    },
    config::Settings,
    core::{
        json::{array_splitter::ArraySplitter, chunk::Chunk},
        mapping::{
            filter::{Decision, decide},
            row::{Draft, Enriched, RowSource},
        },
        position::{
            cursor::{Slice, StreamKey},
            paging::{FilePage, Frame, Next, Paging, Tally, next},
            record_key::RecordMeta,
            window::{Window, delta},
        },
        protocol::choice::Choice,
    },
    error::{Error, Result},
    io::{
        exchange::{Limits, Reply},
        http::Response,
    },
    pipeline::Job,
    source::endpoints_of,
};

/// The most calls for a stream.
const CALLS: usize = 3;

/// How long all streams together may take: hunting allows 45 calls a minute.
const PATIENCE: Duration = Duration::from_mins(10);

const DAY: TimeDelta = TimeDelta::hours(24);

/// How much of a file of an export is looked at, in bytes as they were before they were compressed.
const FILE_BYTES: u64 = 16 << 20;

/// How many rows of a table are looked at for their size.
const SAMPLE: u64 = 1_000;

/// Switches on every stream that the connections could read.
pub fn switch_all_on(settings: &mut Settings) {
    for connection in &mut settings.connections {
        for endpoint in endpoints_of(connection.source.kind()) {
            for Choice(setting, word) in endpoint.switch.any {
                connection.choices.add(setting, [*word]);
            }
        }
    }
}

/// The streams, each with what it will bring.
pub async fn estimates(app: &App) -> Vec<(StreamKey, Result<Estimate>)> {
    let limits = app.limits_of(PATIENCE, CancellationToken::new());
    let now = app.parts().clock.now();
    let mut all = Vec::new();
    for job in app.jobs() {
        let looker = Looker {
            job,
            limits: &limits,
            now,
        };
        all.push((job.key.clone(), looker.estimate().await));
    }
    all
}

/// Looks at one stream.
struct Looker<'a> {
    job: &'a Job,
    limits: &'a Limits,
    now: DateTime<Utc>,
}

impl Looker<'_> {
    async fn estimate(&self) -> Result<Estimate> {
        let endpoint = self.job.source.endpoint();
        let list = endpoint.list_of(&Slice::Pass);
        if let (Some(_), Paging::Skip { top }) = (endpoint.snapshot, list.paging) {
            return self.snapshot(top).await;
        }
        let day = Window {
            from: self.now - DAY,
            to: self.now,
        };
        if list.paging == Paging::Files {
            return self.exported(day).await;
        }
        match self.job.source.count(day, self.limits).await? {
            Some(count) => self.sampled(count, day).await,
            None => self.listed(day, CALLS).await,
        }
    }

    /// All there is, page by page, until its number is known or the calls are used up.
    async fn snapshot(&self, top: u32) -> Result<Estimate> {
        let mut total = Total::of_pages(top);
        let mut seen = PageStatistics::default();
        for _ in 0..CALLS {
            let Some(skip) = total.next() else { break };
            let before = seen.records;
            let page = if skip == 0 {
                String::new()
            } else {
                skip.to_string()
            };
            let next = self.page(&Slice::Pass, &page, &mut seen).await?;
            let count = seen.records - before;
            if let Next::Page(_) = next {
                total.clamp(count);
            }
            total.see(skip, count);
        }
        Ok(of_snapshot(&total, &seen, delta(self.job.pace.rewrite)))
    }

    /// Some rows of a day that has `count`.
    async fn sampled(&self, count: u64, day: Window) -> Result<Estimate> {
        let mut seen = PageStatistics::default();
        let some = DAY.num_milliseconds().unsigned_abs() * SAMPLE.min(count);
        if let Some(part) = some.checked_div(count) {
            let part = TimeDelta::milliseconds(i64::try_from(part).unwrap_or_default().max(1));
            let middle = day.from + (DAY - part) / 2;
            let window = Window {
                from: middle,
                to: middle + part,
            };
            self.page(&Slice::Window(window), "", &mut seen).await?;
        }
        Ok(of_count(count, &seen))
    }

    /// The export that the first run reads, by its first file; and the changes of a day.
    async fn exported(&self, day: Window) -> Result<Estimate> {
        let mut seen = PageStatistics::default();
        let listed = self.page(&Slice::Pass, "", &mut seen).await?;
        let file = match &listed {
            Next::Page(page) => FilePage::of(page).map(|file| (page, file.files)),
            _ => None,
        };
        let (files, part) = match file {
            Some((page, files)) => (files, Some(self.file(page, &mut seen).await?)),
            None => (0, None),
        };
        let changes = self.listed(day, CALLS - 2).await?;
        Ok(of_export(files as u64, part, &seen, &changes))
    }

    /// Adds the beginning of a file of an export to what was seen.
    async fn file(&self, page: &str, seen: &mut PageStatistics) -> Result<Part> {
        let (response, _) = self.ask(&Slice::Pass, page).await?;
        let rows = self.rows();
        let mut tally = Tally::default();
        let takes_hash = self.job.source.endpoint().identity.takes_hash();
        sample::file(response, FILE_BYTES, takes_hash, |chunk| {
            self.see(chunk, &rows, seen, &mut tally);
        })
        .await
        .map_err(|error| error.context(&self.job.key))
    }

    /// The last day's list, as far as so many calls reach.
    async fn listed(&self, day: Window, calls: usize) -> Result<Estimate> {
        let slice = Slice::Window(day);
        let mut seen = PageStatistics::default();
        let mut page = String::new();
        for _ in 0..calls {
            match self.page(&slice, &page, &mut seen).await? {
                Next::Page(after) => page = after,
                Next::Done => return Ok(of_day(&seen, true)),
                Next::Full(..) => break,
            }
        }
        Ok(of_day(&seen, false))
    }

    /// Adds a page to what was seen.
    async fn page(&self, slice: &Slice, page: &str, seen: &mut PageStatistics) -> Result<Next> {
        let (response, records) = self.ask(slice, page).await?;
        let mut tally = Tally::default();
        let frame = self.read(response, records, seen, &mut tally).await?;
        let paging = self.job.source.endpoint().list_of(slice).paging;
        Ok(next(paging, slice.window(), page, &frame, &tally))
    }

    async fn ask(&self, slice: &Slice, page: &str) -> Result<(Response, &'static str)> {
        let endpoint = self.job.source.endpoint();
        let (reply, records) = self.job.source.page(slice, page, self.limits).await?;
        match reply {
            Reply::Answer(response) => Ok((response, records)),
            Reply::NotOffered(how) | Reply::NotThere(how) => {
                Err(Error::config(format!("{how}: {}", endpoint.off_fix)))
            }
            Reply::Forbidden(how) => Err(Error::config(format!("{how}: {}", endpoint.fix))),
            Reply::TooLarge(how)
            | Reply::UsedUp(how)
            | Reply::PositionRefused(how)
            | Reply::Unexpected(how, _) => Err(Error::transient(how)),
        }
    }

    fn rows(&self) -> RowSource {
        let job = self.job;
        let endpoint = job.source.endpoint();
        RowSource::new(endpoint, &job.layout, &job.key.connection, false)
    }

    async fn read(
        &self,
        response: Response,
        records: &'static str,
        seen: &mut PageStatistics,
        tally: &mut Tally,
    ) -> Result<Frame> {
        let job = self.job;
        let rows = self.rows();
        let mut body = response.body;
        let takes_hash = job.source.endpoint().identity.takes_hash();
        let mut cutter = ArraySplitter::new(records).hashed(takes_hash);
        let mut full = Vec::new();
        let broken = |error| Error::transient(format!("{}: {error}", job.key.stream));
        while let Some(part) = body.try_next().await.map_err(broken)? {
            cutter.feed(&part, &mut full)?;
            for chunk in full.drain(..) {
                self.see(&chunk, &rows, seen, tally);
            }
        }
        let (chunk, frame) = cutter.finish()?;
        self.see(&chunk, &rows, seen, tally);
        Ok(frame)
    }

    fn see(&self, chunk: &Chunk, rows: &RowSource, seen: &mut PageStatistics, tally: &mut Tally) {
        let identity = &self.job.source.endpoint().identity;
        let mut row = Draft::default();
        for at in 0..chunk.handy() {
            let Ok(members) = chunk.members(at) else {
                continue;
            };
            let facts = RecordMeta::of(&members, identity);
            let kept = decide(&self.job.filters, &members) == Decision::Keep;
            if kept {
                rows.write(&members, &facts, Enriched::default(), self.now, &mut row);
            }
            seen.see(facts.time, kept.then_some(row.json.len()));
            tally.see(facts.time);
        }
    }
}
