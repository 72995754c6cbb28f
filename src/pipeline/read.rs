//! The reader: slices and pages, one question at a time, cut into chunks.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio::sync::mpsc;

use super::{Job, Outcome, Parts};
use crate::{
    core::{
        cursor::{Move, Open, Slice, Steps, StreamState},
        page::{Chunk, Continuation, Cutter},
        retry::backoff,
        window::{Window, delta},
    },
    error::{Error, Result},
    io::{
        clock::timeout,
        exchange::{Limits, Reply},
        http::{Body, Response},
    },
};

/// What the reader hands to the writer, in order.
pub(super) enum Piece {
    /// Records.
    Chunk(Chunk),
    /// The stream moves, once all records before this are safe.
    Move(Move),
}

/// How often a page is asked for again when its body breaks off or is no JSON.
const BROKEN_BODIES: u32 = 2;

/// How often one slice may be refused a page before its cursor is given up.
const REFUSED_PAGES: u32 = 2;

/// How often a run takes a new token before it says that something is wrong.
const REFUSED_TOKENS: u32 = 2;

/// The longest silence in the middle of a body.
const BODY_SILENCE: Duration = Duration::from_mins(1);

/// A question that is open for longer when the time is up had its chance.
const CUT_SHORT: TimeDelta = TimeDelta::seconds(30);

/// Clocks that differ by less are right: every lookback is longer.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(1);

/// Parts of a body that wait for the cutter.
const PARTS_AHEAD: usize = 8;

pub(super) struct Reader<'a> {
    job: &'a Job,
    parts: &'a Parts,
    limits: &'a Limits,
    began: DateTime<Utc>,
    /// Where the stream will stand when all that was handed on is safe.
    plan: StreamState,
    pieces: mpsc::Sender<Piece>,
    steps: Steps,
    /// This run has read something.
    moved: bool,
    refused_pages: u32,
    refused_tokens: u32,
    /// When the source began the list of the open slice, by its own clock.
    listed: Option<DateTime<Utc>>,
    /// The pages of the open slice: none may come twice.
    pages: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        job: &'a Job,
        parts: &'a Parts,
        limits: &'a Limits,
        plan: StreamState,
        pieces: mpsc::Sender<Piece>,
    ) -> Self {
        Self {
            job,
            parts,
            limits,
            began: parts.clock.now(),
            plan,
            pieces,
            steps: Steps::default(),
            moved: false,
            refused_pages: 0,
            refused_tokens: 0,
            listed: None,
            pages: HashSet::new(),
        }
    }

    /// Reads until the stream is up to date or the time is up.
    pub(super) async fn run(mut self) -> Result<Outcome> {
        let has_feed = self.job.source.endpoint().feed.is_some();
        loop {
            let next = self
                .plan
                .next(has_feed, &self.job.pace, self.steps, self.began);
            let Some(open) = next else {
                let left = self.plan.backlog.is_some();
                return Ok(if left {
                    Outcome::Behind
                } else {
                    Outcome::UpToDate
                });
            };
            if self.is_over() {
                return Ok(Outcome::Behind);
            }
            let now = self.parts.clock.now();
            match self.page(&open).await {
                Ok(Step::On) => self.moved = true,
                Ok(Step::Off) => return Ok(Outcome::Off),
                // The rest of the window is still to come.
                Ok(Step::Ahead) => return Ok(Outcome::UpToDate),
                Err(error) if self.was_cut_short(now) => {
                    tracing::info!(%error, "the time is up");
                    return Ok(Outcome::Behind);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.limits.stop.is_cancelled() || self.parts.clock.now() >= self.limits.deadline
    }

    /// True when a question that was asked a moment ago met the end of the run: nobody failed, and
    /// the next run goes on from there. A run that has not moved at all says what held it up.
    fn was_cut_short(&self, asked: DateTime<Utc>) -> bool {
        let now = self.parts.clock.now();
        let just_asked = self.moved && now - asked < CUT_SHORT;
        self.is_over() && (just_asked || self.limits.stop.is_cancelled())
    }

    /// One page, and the move that it makes.
    async fn page(&mut self, open: &Open) -> Result<Step> {
        let mut broken = 0;
        let next = loop {
            let (reply, records) = self
                .job
                .source
                .page(&open.slice, &open.page, self.limits)
                .await?;
            let body = match reply {
                Reply::Answer(response) => {
                    self.note_date(open, &response);
                    response.body
                }
                other => return self.refused(open, other).await,
            };
            match self.cut(body, records).await {
                Ok(next) => break next,
                Err(error) if broken == BROKEN_BODIES || self.is_over() => return Err(error),
                Err(error) => {
                    broken += 1;
                    tracing::info!(%error, broken, "asking for the page again");
                    self.parts
                        .clock
                        .sleep(backoff(broken, (self.parts.random)()))
                        .await;
                }
            }
        };
        let Some(page) = next.next_page() else {
            // What an earlier run began shows the source as it was then.
            if open.began >= self.began {
                match &open.slice {
                    Slice::Window(_) => self.steps.window = true,
                    Slice::Token(_) => self.steps.feed = true,
                    Slice::Latest => {}
                }
            }
            self.pages.clear();
            self.refused_pages = 0;
            let token = next.next_token().map(str::to_owned);
            if open.slice == Slice::Latest && token.is_none() {
                return Err(Error::contract(format!(
                    "{}: the feed answered without a token to go on from",
                    self.job.key
                )));
            }
            // A first token stands for the time of its answer, which may have been long in coming:
            // what the token leaves out has to be read by window.
            let began = match open.slice {
                Slice::Latest => self.listed.max(Some(self.parts.clock.now())),
                _ => None,
            };
            let proven = self.proven(&open.slice);
            let ahead = proven.is_some();
            self.apply(Move::Slice {
                slice: proven.unwrap_or_else(|| open.slice.clone()),
                token,
                began: began.unwrap_or(open.began),
            })
            .await?;
            return Ok(if ahead { Step::Ahead } else { Step::On });
        };
        if page == open.page || !self.pages.insert(page.to_owned()) {
            // The next run must not begin with the page that leads in a circle.
            self.apply(Move::PageRefused).await?;
            return Err(Error::contract(format!(
                "{}: the source named the same next page twice; its slice is read again from the \
                 beginning in the next run",
                self.job.key
            )));
        }
        let slice = open.slice.clone();
        self.apply(Move::Page {
            slice,
            next: page.to_owned(),
            began: open.began,
        })
        .await
    }

    /// When the source made the list whose pages are read, by its own clock.
    fn note_date(&mut self, open: &Open, response: &Response) {
        let date = response.header("date");
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        if open.page.is_empty() || self.listed.is_none() {
            self.listed = date.map(|date| date.to_utc());
        }
    }

    /// A window that ends in the source's future, as far as it is past there: when our clock is ahead,
    /// the cursor has to follow the source's, or it would pass records that do not exist yet.
    fn proven(&self, slice: &Slice) -> Option<Slice> {
        let (Slice::Window(window), Some(listed)) = (slice, self.listed) else {
            return None;
        };
        let to = listed - delta(self.job.pace.delay);
        let ahead = window.to - to;
        // The feed follows the source's clock by itself.
        if ahead < CLOCKS_DIFFER || self.plan.has_token() {
            return None;
        }
        let minutes = ahead.num_minutes();
        tracing::warn!(minutes, "our clock is ahead of the source's: correct it");
        Some(Slice::Window(Window {
            to: to.max(window.from),
            ..*window
        }))
    }

    /// What a refusal means for the stream.
    async fn refused(&mut self, open: &Open, reply: Reply) -> Result<Step> {
        let key = &self.job.key;
        let at: DateTime<Utc> = self.parts.clock.now();
        match reply {
            Reply::PositionRefused(reason) => {
                if !open.page.is_empty() && self.refused_pages < REFUSED_PAGES {
                    self.refused_pages += 1;
                    self.pages.clear();
                    tracing::info!(%reason, "page token refused; the slice starts over");
                    return self.apply(Move::PageRefused).await;
                }
                self.refused_tokens += 1;
                if matches!(open.slice, Slice::Window(_)) || self.refused_tokens > REFUSED_TOKENS {
                    return Err(Error::contract(format!(
                        "{key}: the source refuses the tokens that it gave itself ({reason})"
                    )));
                }
                tracing::info!(%reason, "delta token refused; what it stood for is read by window");
                self.apply(Move::TokenRefused { reason, at }).await
            }
            // The next run asks for them again: what is in them is not given up.
            Reply::NotOffered(reason)
                if matches!(open.slice, Slice::Window(_))
                    && self.plan.has_token()
                    && !self.steps.feed_first =>
            {
                tracing::info!(%reason, "windows are not offered; the feed goes on without them");
                self.steps.feed_first = true;
                if self.plan.open.is_some() {
                    return self.apply(Move::PageRefused).await;
                }
                Ok(Step::On)
            }
            Reply::NotOffered(reason) if matches!(open.slice, Slice::Window(_)) => {
                if self.plan.off.is_none() {
                    tracing::info!(%reason, "the source does not offer this stream; it is off");
                }
                self.apply(Move::Off { at }).await?;
                Ok(Step::Off)
            }
            // No document names the feed: however it refuses to begin, windows know as much.
            Reply::NotOffered(reason) | Reply::Unexpected(reason, _)
                if !matches!(open.slice, Slice::Window(_)) =>
            {
                tracing::info!(%reason, "no token feed; windows instead");
                self.apply(Move::FeedMissing { at }).await
            }
            Reply::Forbidden(what) => Err(Error::config(format!(
                "{key}: {what}: give the API user read access to this product, or take the product \
                 out of the settings"
            ))),
            Reply::NotOffered(what) | Reply::Unexpected(what, _) => {
                Err(Error::contract(format!("{key}: {what}")))
            }
            Reply::Answer(_) => Ok(Step::On),
        }
    }

    async fn apply(&mut self, change: Move) -> Result<Step> {
        self.plan.apply(&change, &self.job.pace);
        self.hand_on(Piece::Move(change)).await?;
        Ok(Step::On)
    }

    async fn hand_on(&self, piece: Piece) -> Result<()> {
        // The writer only goes away with an error of its own, which is the one that is reported.
        self.pieces
            .send(piece)
            .await
            .map_err(|_| Error::transient("the writer has stopped"))
    }

    /// Cuts a body into chunks on a thread of its own, while it arrives.
    async fn cut(&self, mut body: Body, records: &'static str) -> Result<Continuation> {
        let (parts, mut incoming) = mpsc::channel::<Bytes>(PARTS_AHEAD);
        let pieces = self.pieces.clone();
        let cutter = tokio::task::spawn_blocking(move || {
            let mut cutter = Cutter::new(records);
            let mut full = Vec::new();
            let hand_on = |chunk: Chunk| {
                chunk.is_empty() || pieces.blocking_send(Piece::Chunk(chunk)).is_ok()
            };
            while let Some(part) = incoming.blocking_recv() {
                cutter.feed(&part, &mut full)?;
                if !full.drain(..).all(hand_on) {
                    return Err(Error::transient("the writer has stopped"));
                }
            }
            let (last, next) = cutter.finish::<Continuation>()?;
            if hand_on(last) {
                Ok(next)
            } else {
                Err(Error::transient("the writer has stopped"))
            }
        });
        let arrived = self.pump(&mut body, parts).await;
        let cut = cutter
            .await
            .unwrap_or_else(|_| Err(Error::contract("the cutter stopped")));
        let name = |error: Error| error.context(&self.job.key);
        arrived.map_err(name)?;
        cut.map_err(name)
    }

    async fn pump(&self, body: &mut Body, parts: mpsc::Sender<Bytes>) -> Result<()> {
        loop {
            let left = (self.limits.deadline - self.parts.clock.now()).to_std();
            let limit = left.unwrap_or_default().min(BODY_SILENCE);
            let part = tokio::select! {
                part = timeout(&*self.parts.clock, limit, body.try_next()) => part,
                () = self.limits.stop.cancelled() => return Err(Error::transient("asked to stop")),
            };
            match part {
                Err(_) => return Err(Error::transient("the answer stopped coming")),
                Ok(Err(error)) => {
                    return Err(Error::transient(format!("the answer broke off: {error}")));
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(part))) => {
                    // A cutter that is gone has the better error.
                    if parts.send(part).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Step {
    On,
    Off,
    Ahead,
}
