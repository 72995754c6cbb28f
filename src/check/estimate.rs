//! How much each stream will bring: a few calls each, and no cursor moves.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::sample;
use crate::{
    app::App,
    check::volume::{
        Estimate, PageStatistics, Part, Total, of_count, of_day, of_export, of_snapshot,
    },
    config::Settings,
    core::{
        json::chunk::Chunk,
        mapping::{
            filter::Filter,
            mapper::{Mapper, Selected},
            workset::Workset,
        },
        position::{
            cursor::{OpenSlice, Slice, StreamKey, StreamState},
            dedupe::DedupMode,
            paging::{Next, Page, Paging, next},
            window::{Window, delta},
        },
        protocol::choice::Choice,
    },
    error::{Error, Result},
    io::{exchange::Reply, http::Response, retry::Limits},
    pipeline::{self, Job},
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
        let mut sample = self.sample(&Slice::Pass);
        for _ in 0..CALLS {
            let Some(skip) = total.next() else { break };
            let before = sample.wanted.seen.records;
            let page = if skip == 0 {
                Page::First
            } else {
                Page::Skip(skip, None)
            };
            let next = self.page(&Slice::Pass, &page, &mut sample).await?;
            let count = sample.wanted.seen.records - before;
            if let Next::Page(_) = next {
                total.clamp(count);
            }
            total.see(skip, count);
        }
        let rewrite = delta(self.job.pace.rewrite);
        Ok(sample.tells(|seen| of_snapshot(&total, seen, rewrite)))
    }

    /// Some rows of a day that has `count`.
    async fn sampled(&self, count: u64, day: Window) -> Result<Estimate> {
        let mut sample = self.sample(&Slice::Window(day));
        let some = DAY.num_milliseconds().unsigned_abs() * SAMPLE.min(count);
        if let Some(part) = some.checked_div(count) {
            let part = TimeDelta::milliseconds(i64::try_from(part).unwrap_or_default().max(1));
            let middle = day.from + (DAY - part) / 2;
            let window = Window {
                from: middle,
                to: middle + part,
            };
            self.page(&Slice::Window(window), &Page::First, &mut sample)
                .await?;
        }
        Ok(sample.tells(|seen| of_count(count, seen)))
    }

    /// The export that the first run reads, by its first file; and the changes of a day.
    async fn exported(&self, day: Window) -> Result<Estimate> {
        let mut sample = self.sample(&Slice::Pass);
        let listed = self.page(&Slice::Pass, &Page::First, &mut sample).await?;
        let file = match &listed {
            Next::Page(page @ Page::File(file)) => Some((page, file.files)),
            _ => None,
        };
        let (files, part) = match file {
            Some((page, files)) => (files, Some(self.file(page, &mut sample).await?)),
            None => (0, None),
        };
        let changes = self.listed(day, CALLS - 2).await?;
        let seen = &sample.wanted.seen;
        Ok(of_export(files as u64, part, seen, &changes))
    }

    /// Adds the beginning of a file of an export to what was seen.
    async fn file(&self, page: &Page, sample: &mut Sample) -> Result<Part> {
        let (response, _) = self.ask(&Slice::Pass, page).await?;
        let hashes = sample.mode.hashes(self.job.source.endpoint());
        sample::file(response, FILE_BYTES, hashes, |chunk| sample.see(chunk))
            .await
            .map_err(|error| error.context(&self.job.key))
    }

    /// The last day's list, as far as so many calls reach.
    async fn listed(&self, day: Window, calls: usize) -> Result<Estimate> {
        let slice = Slice::Window(day);
        let mut sample = self.sample(&slice);
        let mut page = Page::First;
        for _ in 0..calls {
            match self.page(&slice, &page, &mut sample).await? {
                Next::Page(after) => page = after,
                Next::Done => return Ok(sample.tells(|seen| of_day(seen, true))),
                Next::Full(..) => break,
            }
        }
        Ok(sample.tells(|seen| of_day(seen, false)))
    }

    /// Adds a page to what was seen.
    async fn page(&self, slice: &Slice, page: &Page, sample: &mut Sample) -> Result<Next> {
        let (response, records) = self.ask(slice, page).await?;
        let open = OpenSlice {
            slice: slice.clone(),
            page: page.clone(),
            began: self.now,
        };
        let (frame, tally) =
            pipeline::read_through(self.job, &open, sample.mode, response, records, |chunk| {
                sample.see(chunk);
            })
            .await
            .map_err(|error| error.context(&self.job.key))?;
        for look in sample.looks() {
            look.seen.cover(tally.span());
        }
        let paging = self.job.source.endpoint().list_of(slice).paging;
        Ok(next(paging, slice.window(), page, &frame, &tally))
    }

    async fn ask(&self, slice: &Slice, page: &Page) -> Result<(Response, &'static str)> {
        let endpoint = self.job.source.endpoint();
        let (reply, records) = self.job.source.page(slice, page, self.limits).await?;
        match reply {
            Reply::Answer(response) => Ok((response, records)),
            Reply::NotOffered(how) | Reply::NotThere(how) => {
                Err(Error::config(format!("{how}: {}", endpoint.off_fix)))
            }
            Reply::Forbidden(how) => {
                let error = Error::config(format!("{how}: {}", endpoint.fix));
                Err(how.explains(error))
            }
            Reply::TooLarge(how)
            | Reply::UsedUp(how)
            | Reply::PositionRefused(how)
            | Reply::Unexpected(how, _) => Err(Error::transient(how.to_string())),
        }
    }

    /// Nothing of a slice that is looked at.
    fn sample(&self, slice: &Slice) -> Sample {
        let job = self.job;
        let endpoint = job.source.endpoint();
        let open = OpenSlice::new(slice.clone(), self.now);
        let look = |filters: &Arc<[Filter]>| Look {
            // What is looked up about records takes a call for each.
            mapper: Mapper::new(
                endpoint,
                &job.layout,
                &job.key,
                job.event_time,
                false,
                filters,
            ),
            workset: Workset::new(&job.table),
            seen: PageStatistics::default(),
        };
        let own = |filter: &&Filter| !matches!(filter, Filter::Unwanted(..));
        let others: Arc<[Filter]> = job.filters.iter().filter(own).cloned().collect();
        Sample {
            wanted: look(&job.filters),
            unfiltered: (others.len() < job.filters.len()).then(|| look(&others)),
            mode: DedupMode::of(endpoint, &StreamState::default(), &open, &job.pace),
            now: self.now,
        }
    }
}

/// Records that are looked at, as a first run would make rows of them.
struct Sample {
    wanted: Look,
    /// They without the stream's filter, where there is one.
    unfiltered: Option<Look>,
    mode: DedupMode,
    now: DateTime<Utc>,
}

impl Sample {
    fn looks(&mut self) -> impl Iterator<Item = &mut Look> {
        [&mut self.wanted].into_iter().chain(&mut self.unfiltered)
    }

    fn see(&mut self, chunk: Chunk) {
        let (chunk, mode, now) = (Arc::new(chunk), self.mode, self.now);
        for look in self.looks() {
            look.see(&chunk, mode, now);
        }
    }

    /// The estimate from what was seen, and beside it what would come without the filter.
    fn tells(&self, estimate: impl Fn(&PageStatistics) -> Estimate) -> Estimate {
        let mut told = estimate(&self.wanted.seen);
        if let Some(all) = &self.unfiltered {
            let all = estimate(&all.seen);
            told.unfiltered = Some((all.rows, all.bytes));
        }
        told
    }
}

/// What becomes of records under some filters.
struct Look {
    mapper: Mapper,
    workset: Workset,
    seen: PageStatistics,
}

impl Look {
    fn see(&mut self, chunk: &Arc<Chunk>, mode: DedupMode, now: DateTime<Utc>) {
        let workset = &mut self.workset;
        let mut from = 0;
        loop {
            // Nothing was handled before.
            match self.mapper.select(chunk, from, mode, workset, now) {
                Selected::All => break,
                Selected::NeedsSeen(at, bucket) => {
                    workset.seen.load(bucket, Vec::new());
                    from = at;
                }
                Selected::NeedsSent(at, bucket) => {
                    workset.sent.load(bucket, Vec::new());
                    from = at;
                }
            }
        }
        let (open, _) = workset.take_batch();
        let full = workset.full.drain(..).map(|(batch, _)| batch);
        let (mut rows, mut bytes) = (0, 0);
        for batch in full.chain([open]) {
            rows += batch.len();
            bytes += batch.rows().map(<[u8]>::len).sum::<usize>();
        }
        self.seen.add(chunk.len(), rows, bytes);
        // Nobody keeps them.
        workset.originals.clear();
        workset.bad.clear();
        workset.met.clear();
        workset.first.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use async_trait::async_trait;
    use futures_util::stream;
    use http::{HeaderMap, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        core::{
            mapping::{filter::Filter, layout::Layout},
            protocol::endpoint::Endpoint,
        },
        source::{
            self,
            defender::{MDE_ALERTS, hunting},
            eset::DETECTIONS,
        },
    };

    /// A source that gives these answers, one for each page that it is asked for.
    struct Canned {
        endpoint: &'static Endpoint,
        count: Option<u64>,
        answers: Mutex<VecDeque<Value>>,
    }

    #[async_trait]
    impl source::Source for Canned {
        fn endpoint(&self) -> &'static Endpoint {
            self.endpoint
        }

        async fn page(&self, slice: &Slice, _: &Page, _: &Limits) -> Result<(Reply, &'static str)> {
            let answer = self.answers.lock().unwrap().pop_front().unwrap();
            let body = stream::iter([Ok(answer.to_string().into_bytes().into())]);
            let response = Response {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: Box::pin(body),
            };
            let records = self.endpoint.list_of(slice).records;
            Ok((Reply::Answer(response), records))
        }

        async fn count(&self, _: Window, _: &Limits) -> Result<Option<u64>> {
            Ok(self.count)
        }
    }

    /// The estimate of a stream that gives these answers.
    async fn estimate(
        endpoint: &'static Endpoint,
        filters: &[Filter],
        count: Option<u64>,
        answers: &[Value],
    ) -> Estimate {
        let job = Job {
            key: StreamKey::new("default", endpoint.stream),
            source: Arc::new(Canned {
                endpoint,
                count,
                answers: Mutex::new(answers.iter().cloned().collect()),
            }),
            table: endpoint.table.name.to_owned(),
            layout: Layout::shared(endpoint),
            pace: endpoint.pace,
            event_time: false,
            expiring: Arc::new([]),
            at_once: false,
            filters: filters.into(),
        };
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let limits = Limits::until(now + DAY);
        let looker = Looker {
            job: &job,
            limits: &limits,
            now,
        };
        looker.estimate().await.unwrap()
    }

    #[tokio::test]
    async fn what_a_row_of_hunting_says_about_its_members_is_not_in_its_size() {
        let endpoint = &hunting::table("DeviceEvents").unwrap().endpoint;
        let plain = json!({"Timestamp": "2026-01-01T12:00:00Z", "DeviceId": "d", "ReportId": 7});
        let mut annotated = plain.clone();
        annotated["ReportId@odata.type"] = "#Int64".into();
        let of = async |record: Value| {
            let answer = json!({"results": [record]});
            estimate(endpoint, &[], Some(1_000), &[answer]).await.bytes
        };
        assert_eq!(of(annotated).await, of(plain).await);
    }

    #[tokio::test]
    async fn a_record_that_comes_twice_is_one_row() {
        let detection = |id: &str| json!({"uuid": id, "occurTime": "2026-01-01T12:00:00Z"});
        let answers = [
            json!({"detections": [detection("a"), detection("b")], "nextPageToken": "2"}),
            json!({"detections": [detection("b"), detection("c"), detection("c")]}),
        ];
        assert_eq!(estimate(&DETECTIONS, &[], None, &answers).await.rows, 3);
    }

    #[tokio::test]
    async fn the_closing_of_an_alert_that_is_sent_is_a_row() {
        const UNLESS_SENT: &[Filter] = &[Filter::SaysBeforeSent("status", "Resolved")];
        let alert = |id: &str, status: &str, minute: u32| {
            json!({
                "id": id,
                "status": status,
                "alertCreationTime": "2026-01-01T12:00:00Z",
                "lastUpdateTime": format!("2026-01-01T12:{minute:02}:00Z"),
            })
        };
        let answer = json!({"value": [
            alert("a", "New", 1),
            alert("b", "Resolved", 2),
            alert("a", "Resolved", 3),
        ]});
        let rows = estimate(&MDE_ALERTS, UNLESS_SENT, None, &[answer])
            .await
            .rows;
        assert_eq!(rows, 2);
    }
}
