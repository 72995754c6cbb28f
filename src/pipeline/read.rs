//! The reader: slices and pages, one question at a time, cut into chunks.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tracing::{
    Instrument,
    field::{self, Empty},
};

use super::{
    Job, Outcome, Parts, Turn,
    read_event::ReadEvent,
    split::{BodyShape, Broken, Cut, Through},
};
use crate::{
    core::{
        metrics::TRACED,
        position::{
            cursor::{
                Basis, CLOCKS_DIFFER, Gap, OpenSlice, RunProgress, Slice, StreamState, Transition,
            },
            dedupe::DedupMode,
            paging::{self, Next, Page, Paging, Tally},
            window::{Passes, Window, delta},
        },
        protocol::endpoint::TimeFilter,
    },
    error::{Attempt, Error, Kind, Result},
    io::{
        clock::timeout,
        exchange::Reply,
        http::{Body, Response},
        retry::{Limits, RetryBudget},
        trail::SpanLink,
    },
};

/// How often a page is asked for at most when its body breaks off or is no JSON.
const BODIES: u32 = 3;

/// How often one slice may be refused a page before its cursor is given up.
const REFUSED_PAGES: u32 = 2;

/// How often a run takes a new token before it says that something is wrong.
const REFUSED_TOKENS: u32 = 2;

/// The longest silence in the middle of a body.
const BODY_SILENCE: Duration = Duration::from_mins(1);

/// A question that is open for longer when the time is up had its chance.
pub(super) const CUT_SHORT: TimeDelta = TimeDelta::seconds(30);

pub(super) struct Reader<'a> {
    job: &'a Job,
    parts: &'a Parts,
    limits: &'a Limits,
    /// When the run began, by the source's clock once it is known that ours is wrong.
    began: DateTime<Utc>,
    /// How far our clock is ahead of the source's, when that is too far.
    ahead: TimeDelta,
    /// The source has told its time in this run.
    told: bool,
    /// Where the stream will stand when all that was handed on is safe.
    plan: StreamState,
    pieces: mpsc::Sender<ReadEvent>,
    steps: RunProgress,
    /// This run has read something.
    moved: bool,
    refused_pages: u32,
    refused_tokens: u32,
    /// When the source began the list of the open slice, by its own clock.
    listed: Option<DateTime<Utc>>,
    /// The pages of the open slice: none may come twice.
    pages: HashSet<Page>,
    /// Records that came since a link was followed.
    behind_links: u64,
    /// What the page before this one held.
    last: Option<Tally>,
    /// It was told that the source ignores the filter.
    told_outside: bool,
    turn: &'a Turn,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        job: &'a Job,
        parts: &'a Parts,
        limits: &'a Limits,
        plan: StreamState,
        pieces: mpsc::Sender<ReadEvent>,
        turn: &'a Turn,
    ) -> Self {
        Self {
            job,
            parts,
            limits,
            began: parts.clock.now(),
            ahead: TimeDelta::zero(),
            told: false,
            plan,
            pieces,
            steps: RunProgress::default(),
            moved: false,
            refused_pages: 0,
            refused_tokens: 0,
            listed: None,
            pages: HashSet::new(),
            behind_links: 0,
            last: None,
            told_outside: false,
            turn,
        }
    }

    /// Reads until the stream is up to date or the time is up.
    pub(super) async fn run(mut self) -> Result<Outcome> {
        match self.read().await {
            Err(error) if self.never_had_a_turn(&error) => {
                self.turn.waited.get_or_init(|| error.to_string());
                Ok(Outcome::Behind)
            }
            end => end,
        }
    }

    async fn read(&mut self) -> Result<Outcome> {
        let has_feed = self.job.source.endpoint().feed.is_some();
        // Who comes when the time is up asks nothing.
        if !self.is_over() {
            if self.plan.stands_ahead(&self.job.pace, self.began) {
                self.ask_the_time().await?;
            }
            self.choose_basis().await?;
        }
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
            if !open.page.is_first() && !self.may_read_on().await {
                return Ok(Outcome::Behind);
            }
            let now = self.parts.clock.now();
            match self.page(&open).await {
                Ok(ReadStep::On) => self.moved = true,
                Ok(ReadStep::Off) => return Ok(Outcome::Off),
                // The rest of the window is still to come.
                Ok(ReadStep::Ahead) => return Ok(Outcome::UpToDate),
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

    /// True when the time ended before a first question was let through: others have used up what
    /// they share, and nobody failed.
    fn never_had_a_turn(&self, error: &Error) -> bool {
        let never_asked = |attempt: &Attempt| attempt.attempts == 0;
        !self.moved
            && self.is_over()
            && error.kind() == Kind::Transient
            && error.attempt().is_some_and(never_asked)
    }

    /// Waits until few others read more than a first page. False when the time ends before that.
    async fn may_read_on(&self) -> bool {
        if self.turn.large.get().is_none() {
            let clock = &*self.parts.clock;
            let permit = Arc::clone(&self.parts.bounds.large).acquire_owned();
            let permit = tokio::select! {
                permit = timeout(clock, self.limits.left(clock), permit) => permit.ok(),
                () = self.limits.stop.cancelled() => None,
            };
            match permit {
                Some(Ok(permit)) => drop(self.turn.large.set(permit)),
                _ if self.moved => return false,
                _ => {
                    let why = "out of time, waiting for other streams that read much; the next run \
                               goes on from here";
                    self.turn.waited.get_or_init(|| why.to_owned());
                    return false;
                }
            }
        }
        true
    }

    /// Which time the windows go by, where there is a choice that has not been made of late.
    async fn choose_basis(&mut self) -> Result<()> {
        let filter = self.job.source.endpoint().list.filter;
        if matches!(filter, TimeFilter::Kql(_))
            && self.plan.basis_is_due(self.began)
            && let Some(basis) = self.job.source.basis(self.limits).await?
        {
            let at = self.began;
            self.apply(Transition::Basis { basis, at }).await?;
        }
        Ok(())
    }

    /// The time by the source's clock, as far as it is known.
    fn now(&self) -> DateTime<Utc> {
        self.parts.clock.now() - self.ahead
    }

    /// Asks for a little of what there is, for the time of the answer: a cursor in the future asks for
    /// nothing, and only the source knows whether it is the cursor that is wrong or our clock.
    async fn ask_the_time(&mut self) -> Result<()> {
        let window = Window {
            from: self.began - CLOCKS_DIFFER,
            to: self.began,
        };
        let slice = match (self.job.pace.passes, self.plan.basis) {
            (Passes::Only(_), _) => Slice::Pass,
            (_, Some(Basis::Ingestion)) => Slice::Ingested(window),
            _ => Slice::Window(window),
        };
        let asked = self.parts.clock.now();
        let (reply, _) = self
            .job
            .source
            .page(&slice, &Page::First, self.limits)
            .await?;
        let date = match reply {
            Reply::Answer(response) => response.date(),
            // What it means is for the first page that is read.
            _ => None,
        };
        self.learn(asked, date).await?;
        // A source without a clock leaves ours.
        self.draw_back().await.map(drop)
    }

    /// Takes the source's time for ours where they are too far apart. True when that changes what is
    /// asked for. `asked` is from before the question, so that an answer that was long in coming does
    /// not look like a clock that is behind.
    async fn learn(&mut self, asked: DateTime<Utc>, date: Option<DateTime<Utc>>) -> Result<bool> {
        let Some(date) = date.filter(|_| !std::mem::replace(&mut self.told, true)) else {
            return Ok(false);
        };
        let ahead = asked - date;
        if ahead < CLOCKS_DIFFER && !self.plan.lies_ahead(&self.job.pace, self.began) {
            return Ok(false);
        }
        if ahead.abs() >= CLOCKS_DIFFER {
            let minutes = ahead.num_minutes();
            tracing::warn!(minutes, "our clock is ahead of the source's: correct it");
            self.ahead = ahead;
            self.began -= ahead;
        }
        let changed = ahead.abs() >= CLOCKS_DIFFER;
        Ok(self.draw_back().await? || changed)
    }

    /// Draws the stream back from the future. True when it was there.
    async fn draw_back(&mut self) -> Result<bool> {
        let now = self.began;
        if !self.plan.lies_ahead(&self.job.pace, now) {
            return Ok(false);
        }
        tracing::warn!("the stream stands in the future, by a clock that ran ahead: it goes back");
        self.apply(Transition::DrawnBack { now }).await?;
        Ok(true)
    }

    /// One page, and the move that it makes, as one span.
    async fn page(&mut self, open: &OpenSlice) -> Result<ReadStep> {
        let span = tracing::info_span!(
            target: TRACED,
            "page",
            slice = open.slice.word(),
            first = open.page.is_first(),
            otel.status_code = Empty,
            error.type = Empty,
        );
        if !span.is_disabled() {
            self.hand_on(ReadEvent::Page(SpanLink::of(&span))).await?;
        }
        let read = self.page_read(open).instrument(span.clone()).await;
        if let Err(error) = &read {
            span.record("error.type", field::display(error.kind()));
            span.record("otel.status_code", "ERROR");
        }
        read
    }

    /// One page, and the move that it makes.
    async fn page_read(&mut self, open: &OpenSlice) -> Result<ReadStep> {
        let paging = self.job.source.endpoint().paging(&open.slice);
        let parts = self.parts;
        let deadline = self.limits.deadline;
        let mut budget = RetryBudget::new(&*parts.clock, &parts.random, deadline, BODIES);
        // Where a file breaks off, it goes on.
        let mut page = open.page.clone();
        let through = loop {
            let asked = self.parts.clock.now();
            let (reply, records) = self
                .job
                .source
                .page(&open.slice, &page, self.limits)
                .await?;
            let body = match reply {
                Reply::Answer(response) => {
                    if self.learn(asked, response.date()).await? {
                        // By the right time it is asked for anew.
                        return Ok(ReadStep::On);
                    }
                    self.note_date(open, &response);
                    response.body
                }
                other => return self.refused(open, &page, other).await,
            };
            match self.cut(body, records, open, &page).await {
                Ok(through) => break through,
                Err(Broken { error, lines }) => {
                    let wait = budget.failed(None).ok();
                    let Some(wait) = wait.filter(|_| !self.limits.stop.is_cancelled()) else {
                        return Err(error);
                    };
                    if let Page::File(file) = page {
                        page = Page::File(file.at(lines));
                    }
                    tracing::info!(%error, "asking for the page again");
                    parts.clock.sleep(wait).await;
                }
            }
        };
        let Through { frame, tally } = &through;
        if let Some((count, oldest)) = tally.outside() {
            self.tell_outside(count, oldest).await?;
        }
        let mut next = self.after(paging, open, &page, &through);
        if let Next::Full(left_out, after) = next {
            self.leave_out(left_out).await?;
            next = after.map_or(Next::Done, Next::Page);
        }
        let Next::Page(next) = next else {
            // What an earlier run began shows the source as it was then.
            if open.began >= self.began {
                match &open.slice {
                    Slice::Window(_) | Slice::Ingested(_) => self.steps.window = true,
                    Slice::Token(_) => self.steps.feed = true,
                    Slice::Latest | Slice::Pass => {}
                }
            }
            self.pages.clear();
            self.refused_pages = 0;
            let written = match page {
                Page::File(file) => Some(file.generated),
                _ => None,
            };
            let token = frame.next_token().map(str::to_owned).or(written);
            if open.slice == Slice::Latest && token.is_none() {
                return Err(Error::contract(format!(
                    "{}: the feed answered without a token to go on from",
                    self.job.key
                )));
            }
            // A first token stands for the time of its answer, which may have been long in coming:
            // what the token leaves out has to be read by window.
            let began = match open.slice {
                Slice::Latest => self.listed.max(Some(self.now())),
                _ => None,
            };
            let proven = self.proven(&open.slice);
            let ahead = proven.is_some();
            self.apply(Transition::Slice {
                slice: proven.unwrap_or_else(|| open.slice.clone()),
                token,
                began: began.unwrap_or(open.began),
            })
            .await?;
            return Ok(if ahead { ReadStep::Ahead } else { ReadStep::On });
        };
        self.go_on(open, next).await
    }

    /// What comes after a page, but where the source would lead round and round.
    fn after(&mut self, paging: Paging, open: &OpenSlice, page: &Page, through: &Through) -> Next {
        let Through { frame, tally } = through;
        let mut next = paging::next(paging, open.slice.window(), page, frame, tally);
        if page.link().is_some() {
            self.behind_links += tally.count();
        } else {
            self.behind_links = 0;
        }
        if let Next::Page(to) = &next
            && (*to == open.page || self.pages.contains(to))
            && let Some(on) =
                paging::circled(paging, open.slice.window(), to, self.behind_links > 0)
        {
            tracing::info!("the links of the source lead in a circle");
            next = on;
        }
        let repeats = self.last.is_some_and(|last| tally.begins_like(&last));
        self.last = Some(*tally);
        if let (Next::Page(_), true) = (&next, repeats)
            && let Some(end) = paging::unskipped(paging, open.slice.window(), page, frame, tally)
        {
            tracing::info!("the source skips nothing and gives the same again");
            next = end;
        }
        next
    }

    /// The slice goes on with this page.
    async fn go_on(&mut self, open: &OpenSlice, page: Page) -> Result<ReadStep> {
        if page == open.page || !self.pages.insert(page.clone()) {
            // The next run must not begin with the page that leads in a circle.
            self.apply(Transition::PageRefused).await?;
            return Err(Error::contract(format!(
                "{}: the source named the same next page twice; its slice is read again from the \
                 beginning in the next run",
                self.job.key
            )));
        }
        let slice = open.slice.clone();
        self.apply(Transition::Page {
            slice,
            next: page,
            began: open.began,
        })
        .await
    }

    /// Writes down that the source gave what it was not asked for.
    async fn tell_outside(&mut self, count: u64, oldest: DateTime<Utc>) -> Result<()> {
        if !self.told_outside {
            self.told_outside = true;
            tracing::warn!(
                count,
                %oldest,
                "the source gives records of another time than it was asked for: it ignores the \
                 filter; each of them lands once"
            );
        }
        let at = self.began;
        self.apply(Transition::Outside { count, oldest, at })
            .await
            .map(drop)
    }

    /// The slice ends here: what is left of it is not to be had.
    async fn leave(&mut self, open: &OpenSlice) -> Result<ReadStep> {
        self.apply(Transition::Slice {
            slice: open.slice.clone(),
            token: None,
            began: open.began,
        })
        .await
    }

    /// Writes down what the source does not give, however it is asked.
    async fn leave_out(&mut self, Window { from, to }: Window) -> Result<()> {
        tracing::warn!(%from, %to, "the source holds more records of this time than it gives");
        let gap = Gap {
            from,
            to,
            why: "the source holds more records of this time than it gives; some may be missing"
                .to_owned(),
        };
        self.apply(Transition::Gap(gap)).await.map(drop)
    }

    /// When the source made the list whose pages are read, by its own clock.
    fn note_date(&mut self, open: &OpenSlice, response: &Response) {
        if open.page.is_first() || self.listed.is_none() {
            self.listed = response.date();
        }
    }

    /// A window that ends in the source's future, as far as it is past there: when our clock is ahead,
    /// the cursor has to follow the source's, or it would pass records that do not exist yet.
    fn proven(&self, slice: &Slice) -> Option<Slice> {
        let (Some(window), Some(listed)) = (slice.window(), self.listed) else {
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
        let window = Window {
            to: to.max(window.from),
            ..window
        };
        Some(match slice {
            Slice::Ingested(_) => Slice::Ingested(window),
            _ => Slice::Window(window),
        })
    }

    /// What a refusal means for the stream.
    async fn refused(&mut self, open: &OpenSlice, page: &Page, reply: Reply) -> Result<ReadStep> {
        let key = &self.job.key;
        let endpoint = self.job.source.endpoint();
        let (paging, window) = (endpoint.paging(&open.slice), open.slice.window());
        let is_feed = matches!(open.slice, Slice::Token(_) | Slice::Latest);
        let at = self.now();
        match reply {
            Reply::TooLarge(what) => match paging::smaller(paging, window, page) {
                Some(smaller) => {
                    tracing::info!(%what, "asking for less");
                    self.go_on(open, smaller).await
                }
                None => Err(what.clone().explains(Error::transient(format!(
                    "{key}: {what}, however little is asked for; the next run tries again"
                )))),
            },
            Reply::UsedUp(what) => Err(what.clone().explains(Error::transient(format!(
                "{key}: {what}: the tenant's share of the service is used up; the next run goes on \
                 from here"
            )))),
            Reply::PositionRefused(reason) => {
                if let Some((left_out, next)) = paging::beyond(paging, window, page) {
                    tracing::info!(%reason, "not skipped any further");
                    self.leave_out(left_out).await?;
                    if let Some(next) = next {
                        return self.go_on(open, next).await;
                    }
                    return self.leave(open).await;
                }
                if !open.page.is_first() && self.refused_pages < REFUSED_PAGES {
                    self.refused_pages += 1;
                    self.pages.clear();
                    tracing::info!(%reason, "page token refused; the slice starts over");
                    return self.apply(Transition::PageRefused).await;
                }
                // Nothing else leads to what is behind it.
                if let Some(Next::Full(left_out, next)) =
                    paging::circled(paging, window, page, true)
                {
                    tracing::info!(%reason, "the source refuses the link that it gave itself");
                    self.leave_out(left_out).await?;
                    return match next {
                        Some(next) => self.go_on(open, next).await,
                        None => self.leave(open).await,
                    };
                }
                self.refused_tokens += 1;
                if !is_feed || self.refused_tokens > REFUSED_TOKENS {
                    return Err(reason.clone().explains(Error::contract(format!(
                        "{key}: the source refuses the tokens that it gave itself ({reason})"
                    ))));
                }
                tracing::info!(%reason, "delta token refused; what it stood for is read by window");
                let reason = reason.to_string();
                self.apply(Transition::TokenRefused { reason, at }).await
            }
            // The next run asks for them again: what is in them is not given up.
            Reply::NotOffered(reason) | Reply::NotThere(reason)
                if matches!(open.slice, Slice::Window(_))
                    && self.plan.has_token()
                    && !self.steps.feed_first =>
            {
                tracing::info!(%reason, "windows are not offered; the feed goes on without them");
                self.steps.feed_first = true;
                if self.plan.open.is_some() {
                    return self.apply(Transition::PageRefused).await;
                }
                Ok(ReadStep::On)
            }
            // Somebody in between may have answered, or somebody who is out of sorts.
            Reply::NotThere(what) if !is_feed && self.plan.has_worked() => {
                let error = Error::transient(format!(
                    "{key}: {what}, as if there were no such stream, though it was read before; the \
                     next run asks again"
                ));
                Err(what.explains(error))
            }
            Reply::NotOffered(why) | Reply::NotThere(why) if !is_feed => {
                if self.plan.off.is_none() {
                    tracing::info!(%why, "the source does not offer this stream; it is off");
                }
                let (until, why) = (at + delta(endpoint.retry_off_after), why.to_string());
                self.apply(Transition::Off { at, until, why }).await?;
                Ok(ReadStep::Off)
            }
            // No document names the feed: however it refuses to begin, windows know as much.
            Reply::NotOffered(reason) | Reply::NotThere(reason) | Reply::Unexpected(reason, _)
                if is_feed =>
            {
                tracing::info!(%reason, "no token feed; windows instead");
                self.apply(Transition::FeedMissing { at }).await
            }
            Reply::Forbidden(what) => {
                let error = Error::config(format!("{key}: {what}: {}", endpoint.fix));
                Err(what.explains(error))
            }
            Reply::NotOffered(what) | Reply::NotThere(what) | Reply::Unexpected(what, _) => {
                let error = Error::contract(format!("{key}: {what}"));
                Err(what.explains(error))
            }
            Reply::Answer(_) => Ok(ReadStep::On),
        }
    }

    async fn apply(&mut self, change: Transition) -> Result<ReadStep> {
        self.plan.apply(&change, &self.job.pace);
        self.hand_on(ReadEvent::Transition(change)).await?;
        Ok(ReadStep::On)
    }

    async fn hand_on(&self, piece: ReadEvent) -> Result<()> {
        // The writer only goes away with an error of its own, which is the one that is reported.
        self.pieces
            .send(piece)
            .await
            .map_err(|_| Error::transient("the writer has stopped"))
    }

    /// Cuts a body into chunks while it arrives. A part is small, and cutting it is cheaper than to
    /// hand it to another thread.
    async fn cut(
        &self,
        mut body: Body,
        records: &'static str,
        open: &OpenSlice,
        page: &Page,
    ) -> std::result::Result<Through, Broken> {
        let source = &self.job.source;
        let endpoint = source.endpoint();
        let mode = DedupMode::of(endpoint, &self.plan, open, &self.job.pace);
        let mut cut = Cut::new(
            BodyShape::of(endpoint, &open.slice, page, records),
            mode,
            open,
            mode.hashes(endpoint),
        );
        self.through(&mut body, &mut cut)
            .await
            .map_err(|error| Broken {
                error: error.context(&self.job.key),
                lines: cut.lines(),
            })
    }

    async fn through(&self, body: &mut Body, cut: &mut Cut) -> Result<Through> {
        let mut whole = Vec::new();
        while let Some(part) = self.part(body).await? {
            let mut rest = &*part;
            loop {
                let fed = cut.feed(&mut rest, &mut whole);
                for piece in whole.drain(..) {
                    self.hand_on(piece).await?;
                }
                if !fed? {
                    break;
                }
            }
        }
        let through = cut.finish(&mut whole);
        for piece in whole.drain(..) {
            self.hand_on(piece).await?;
        }
        through
    }

    /// The next part of a body.
    async fn part(&self, body: &mut Body) -> Result<Option<Bytes>> {
        let left = (self.limits.deadline - self.parts.clock.now()).to_std();
        let limit = left.unwrap_or_default().min(BODY_SILENCE);
        let part = tokio::select! {
            part = timeout(&*self.parts.clock, limit, body.try_next()) => part,
            () = self.limits.stop.cancelled() => return Err(Error::transient("asked to stop")),
        };
        match part {
            Err(_) => Err(Error::transient("the answer stopped coming")),
            Ok(Err(error)) => Err(Error::transient(format!("the answer broke off: {error}"))),
            Ok(Ok(part)) => Ok(part),
        }
    }
}

#[derive(PartialEq, Eq)]
enum ReadStep {
    On,
    Off,
    Ahead,
}
