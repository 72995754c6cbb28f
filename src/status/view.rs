//! What the page shows: a pure function of what the last runs left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Overview, UNREADABLE, sentences};
use crate::{
    check::{Found, WARN_DAYS},
    config::Price,
    core::position::{
        cursor::{Gap, StreamKey, StreamState},
        trend::{TrendPoint, TrendSpan},
        window::delta,
    },
    error::Result,
};

/// How long nothing may have run before it is called silent: no timer is slower, unless the stream's
/// own frequency is.
const SILENT_AFTER: TimeDelta = TimeDelta::hours(2);

/// How a stream stands, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Its last run failed, or its state can't be read.
    Failed,
    /// The source offered it once, and does no longer.
    Off,
    /// No run for three times its frequency.
    Silent,
    /// Something could not be proven complete.
    Incomplete,
    /// Not up to date, for no fault.
    Behind,
    /// Somebody has paused it.
    Paused,
    /// It has not run yet.
    Unread,
    /// All is read.
    Well,
    /// The source never offered it.
    NotOffered,
    /// No setting switches it on any longer.
    Left,
}

impl Condition {
    /// It in one or two words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Off => "off",
            Self::Silent => "silent",
            Self::Incomplete => "gap",
            Self::Behind => "behind",
            Self::Paused => "paused",
            Self::Unread => "not run yet",
            Self::Well => "well",
            Self::NotOffered => "not offered",
            Self::Left => "switched off",
        }
    }

    /// True when nothing gets better until somebody acts.
    pub fn needs_somebody(self) -> bool {
        self <= Self::Silent
    }

    /// True when there is something to look at.
    pub fn is_news(self) -> bool {
        self < Self::Well
    }
}

/// When a stream is asked for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTurn {
    /// Not before this time.
    At(DateTime<Utc>),
    /// In the next run, whenever that is.
    Soon,
    /// When somebody lets it.
    Never,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct StreamView {
    /// Its name.
    pub key: StreamKey,
    /// How it stands.
    pub condition: Condition,
    /// Seconds since the time up to which everything was read.
    pub lag_seconds: Option<i64>,
    /// What its runs of the last 24 hours did.
    pub last_day: TrendPoint,
    /// The last day by the hour.
    pub day: Vec<TrendSpan>,
    /// The last week by six hours.
    pub week: Vec<TrendSpan>,
    /// What could not be proven complete.
    pub gaps: Vec<Gap>,
    /// When it is asked for next.
    pub next: NextTurn,
    /// Where it stands, in sentences.
    pub says: Vec<String>,
}

/// The streams of one connection, the worst first.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// Its name.
    pub name: String,
    /// Its streams.
    pub streams: Vec<StreamView>,
}

impl ConnectionView {
    /// How its worst stream stands.
    pub fn condition(&self) -> Condition {
        let mut conditions = self.streams.iter().map(|stream| stream.condition);
        conditions.next().unwrap_or(Condition::Unread)
    }

    /// The greatest lag of its streams.
    pub fn lag_seconds(&self) -> Option<i64> {
        self.streams
            .iter()
            .filter_map(StreamView::lag_that_counts)
            .max()
    }

    /// What its runs of the last 24 hours did.
    pub fn last_day(&self) -> TrendPoint {
        let days = self.streams.iter().map(|stream| stream.last_day);
        days.fold(TrendPoint::default(), TrendPoint::and)
    }
}

/// A sentence, and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Settings, dependencies or streams, of all of which it is true.
    pub about: Vec<String>,
    /// What is so, and how to mend it.
    pub text: String,
}

/// All that is shown.
pub struct StatusView<'a> {
    /// What it is made of.
    pub overview: &'a Overview,
    /// What needs somebody now.
    pub needs: Vec<Advice>,
    /// What is worth knowing.
    pub notes: Vec<Advice>,
    /// The connections, the worst first.
    pub connections: Vec<ConnectionView>,
    /// The last day by the hour, of all streams: rows are added up, of lags the greatest counts.
    pub day: Vec<TrendSpan>,
    /// The last week by six hours.
    pub week: Vec<TrendSpan>,
}

impl<'a> StatusView<'a> {
    /// What is shown of what the last runs left.
    pub fn of(overview: &'a Overview) -> Self {
        let on: BTreeMap<&StreamKey, Duration> = overview
            .streams
            .iter()
            .map(|(key, every)| (key, *every))
            .collect();
        let keys: BTreeSet<&StreamKey> = on.keys().copied().chain(overview.states.keys()).collect();
        let mut groups: BTreeMap<&str, Vec<StreamView>> = BTreeMap::new();
        for key in keys {
            let every = on.get(key).copied();
            let stream = StreamView::of(key, overview.states.get(key), every, overview.now);
            groups.entry(&key.connection).or_default().push(stream);
        }
        let mut connections: Vec<ConnectionView> = groups
            .into_iter()
            .map(|(name, mut streams)| {
                streams.sort_by_key(StreamView::rank);
                let name = name.to_owned();
                ConnectionView { name, streams }
            })
            .collect();
        connections.sort_by_key(|connection| connection.streams.first().map(StreamView::rank));
        let streams = || {
            connections
                .iter()
                .flat_map(|connection| &connection.streams)
        };
        let day = total(streams().map(|stream| (stream, &stream.day)));
        let week = total(streams().map(|stream| (stream, &stream.week)));
        let (needs, notes) = remarks(overview, &streams().collect::<Vec<_>>());
        Self {
            overview,
            needs,
            notes,
            connections,
            day,
            week,
        }
    }

    /// All streams, those of the worst connection first.
    pub fn streams(&self) -> impl Iterator<Item = &StreamView> {
        let connections = self.connections.iter();
        connections.flat_map(|connection| &connection.streams)
    }
}

impl StreamView {
    fn of(
        key: &StreamKey,
        saved: Option<&Result<StreamState>>,
        every: Option<Duration>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut view = Self {
            key: key.clone(),
            condition: Condition::Unread,
            lag_seconds: None,
            last_day: TrendPoint::default(),
            day: Vec::new(),
            week: Vec::new(),
            gaps: Vec::new(),
            next: NextTurn::Soon,
            says: Vec::new(),
        };
        match saved {
            None => view.says.push("has not run yet".to_owned()),
            Some(Err(error)) => {
                view.condition = Condition::Failed;
                view.says = vec![UNREADABLE.to_owned(), error.to_string()];
            }
            Some(Ok(state)) => {
                view.condition = condition(state, every, now);
                view.lag_seconds = state
                    .complete_until
                    .map(|good| (now - good).num_seconds().max(0));
                view.day = state.trend.day(now);
                view.week = state.trend.week(now);
                let points = view.day.iter().filter_map(|(_, point)| *point);
                view.last_day = points.fold(TrendPoint::default(), TrendPoint::and);
                view.gaps.clone_from(&state.gaps);
                view.next = next_turn(state, every, now);
                view.says = sentences(state, now);
            }
        }
        if every.is_none() {
            view.condition = Condition::Left;
            view.next = NextTurn::Never;
        }
        view
    }

    /// What sorts it: how it stands, then how far it is behind.
    fn rank(&self) -> (Condition, i64, StreamKey) {
        (
            self.condition,
            -self.lag_seconds.unwrap_or_default(),
            self.key.clone(),
        )
    }

    /// Its lag, where somebody waits for what it brings.
    fn lag_that_counts(&self) -> Option<i64> {
        let is_awaited = !matches!(
            self.condition,
            Condition::Paused | Condition::NotOffered | Condition::Left
        );
        self.lag_seconds.filter(|_| is_awaited)
    }
}

fn condition(state: &StreamState, every: Option<Duration>, now: DateTime<Utc>) -> Condition {
    let most = SILENT_AFTER.max(delta(every.unwrap_or_default()) * 3);
    let is_silent = state.finished.is_some_and(|finished| now - finished > most);
    match () {
        () if state.paused.is_some() => Condition::Paused,
        () if state.error.is_some() => Condition::Failed,
        () if state.off.is_some() && state.has_worked() => Condition::Off,
        () if is_silent => Condition::Silent,
        () if state.off.is_some() => Condition::NotOffered,
        () if !state.gaps.is_empty() => Condition::Incomplete,
        () if state.behind => Condition::Behind,
        () if !state.has_worked() => Condition::Unread,
        () => Condition::Well,
    }
}

fn next_turn(state: &StreamState, every: Option<Duration>, now: DateTime<Utc>) -> NextTurn {
    if state.paused.is_some() {
        return NextTurn::Never;
    }
    let is_under_way = state.behind || state.open.is_some() || state.error.is_some();
    let due = match (state.off_until, state.finished, every) {
        (Some(until), ..) => Some(until),
        (None, Some(finished), Some(every)) if !is_under_way => Some(finished + delta(every)),
        _ => None,
    };
    match due {
        Some(due) if due > now => NextTurn::At(due),
        _ => NextTurn::Soon,
    }
}

/// The points of all streams in one.
fn total<'a>(trends: impl Iterator<Item = (&'a StreamView, &'a Vec<TrendSpan>)>) -> Vec<TrendSpan> {
    let mut all: BTreeMap<DateTime<Utc>, Option<TrendPoint>> = BTreeMap::new();
    for (stream, spans) in trends {
        let counts = stream.lag_that_counts().is_some();
        for (at, point) in spans {
            let sum = all.entry(*at).or_default();
            if let Some(mut point) = *point {
                point.lag_minutes = point.lag_minutes.filter(|_| counts);
                *sum = Some(sum.map_or(point, |sum| sum.and(point)));
            }
        }
    }
    all.into_iter().collect()
}

/// What needs somebody now, and what is worth knowing. What several say is one sentence.
fn remarks(overview: &Overview, streams: &[&StreamView]) -> (Vec<Advice>, Vec<Advice>) {
    let (mut needs, mut notes) = (AdviceList::default(), AdviceList::default());
    let off: BTreeSet<String> = streams
        .iter()
        .filter(|stream| stream.condition == Condition::Off)
        .map(|stream| stream.key.to_string())
        .collect();
    let ending: BTreeSet<&str> = overview
        .secrets
        .iter()
        .filter(|secret| secret.days_left <= WARN_DAYS)
        .map(|secret| &*secret.name)
        .collect();
    for finding in &overview.findings {
        let is_pressing = match finding.found {
            Found::Ok => continue,
            Found::Bad => true,
            Found::Note => {
                ending.contains(&*finding.what)
                    || finding.what == "poison messages"
                    || off.contains(&finding.what) && finding.text.starts_with("is off")
            }
        };
        let list = if is_pressing { &mut needs } else { &mut notes };
        list.add(&finding.what, &finding.text);
    }
    if let Some(outbox) = &overview.outbox
        && outbox.bytes >= outbox.most
    {
        let why = outbox.oldest.as_ref();
        let why = why.map_or_else(String::new, |oldest| format!(": {}", oldest.reason));
        needs.add(
            "outbox",
            &format!("is full, and nothing more is pulled until SentinelPush has emptied it{why}"),
        );
    }
    for stream in streams {
        if stream.condition == Condition::Silent {
            needs.add(
                &stream.key.to_string(),
                "no run for a long time: look whether its timer function is there and not disabled, and \
                 restart the app; a timer that is slower on purpose wants a longer `…_EVERY` of the stream",
            );
        }
    }
    (needs.list, notes.list)
}

/// Sentences, each once.
#[derive(Default)]
struct AdviceList {
    list: Vec<Advice>,
    places: BTreeMap<String, usize>,
}

impl AdviceList {
    fn add(&mut self, about: &str, text: &str) {
        // An error may name its stream, which stands before it.
        let text = &text.replacen(&format!("{about}: "), "", 1);
        let place = *self
            .places
            .entry(text.to_owned())
            .or_insert(self.list.len());
        match self.list.get_mut(place) {
            Some(remark) => remark.about.push(about.to_owned()),
            None => self.list.push(Advice {
                about: vec![about.to_owned()],
                text: text.to_owned(),
            }),
        }
    }
}

/// What so many bytes cost, in words.
pub(super) fn cost(price: Price, bytes: u64) -> String {
    let millionths = u128::from(bytes) * u128::from(price.thousandths) / 1_000_000;
    let (cents, currency) = (millionths / 10_000, price.currency());
    let number = if cents == 0 && millionths > 0 {
        "< 0.01".to_owned()
    } else {
        format!("{}.{:02}", cents / 100, cents % 100)
    };
    if currency.is_empty() {
        return number;
    }
    format!("{number} {currency}")
}
