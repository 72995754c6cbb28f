//! A peer that answers by script, in virtual time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    clock::{Clock, VirtualClock},
    exchange::ApiClient,
    http::{Request, Response, Transport, TransportError},
    limiter::Limiter,
    retry::Limits,
    wire::Wire,
};

/// What the peer does with one request.
pub(super) enum Step {
    /// Answers, after a while.
    Answer(u16, Vec<(&'static str, String)>, String, Duration),
    /// Breaks the connection.
    Break(&'static str),
    /// Never answers.
    Silence,
    /// Answers, but the body never ends.
    Stall,
}

impl Step {
    pub(super) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new(), Duration::ZERO)
    }

    pub(super) fn ok(body: &str) -> Self {
        Self::Answer(200, Vec::new(), body.to_owned(), Duration::ZERO)
    }

    pub(super) fn header(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body, after) => {
                headers.push((name, value.to_owned()));
                Self::Answer(status, headers, body, after)
            }
            other => other,
        }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        match self {
            Self::Answer(status, headers, body, _) => Self::Answer(status, headers, body, wait),
            other => other,
        }
    }
}

/// A peer with one script for token requests and one for all others. What it was asked is written
/// down, one line each.
pub(super) struct Peer {
    clock: VirtualClock,
    tokens: Mutex<VecDeque<Step>>,
    data: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<String>>,
}

pub(super) fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

impl Peer {
    pub(super) fn new(
        tokens: impl IntoIterator<Item = Step>,
        data: impl IntoIterator<Item = Step>,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: VirtualClock::new(start()),
            tokens: Mutex::new(tokens.into_iter().collect()),
            data: Mutex::new(data.into_iter().collect()),
            asked: Mutex::default(),
        })
    }

    pub(super) fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// An asker whose random numbers are all zero, so that a wait is as long as it gets.
    pub(super) fn asker(self: &Arc<Self>) -> ApiClient {
        let calls = 1000.try_into().unwrap();
        let limiter = Limiter::per_second(calls, Arc::new(self.clock.clone()));
        ApiClient::new(self.wire(), Arc::new(limiter))
    }

    pub(super) fn wire(self: &Arc<Self>) -> Wire {
        Wire {
            transport: Arc::<Self>::clone(self),
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(|| 0.0),
        }
    }

    /// Limits that end in `seconds`.
    pub(super) fn limits(&self, seconds: i64) -> Limits {
        Limits::until(self.clock.now() + TimeDelta::seconds(seconds))
    }

    /// What was asked so far: the second, method, path and query, and what came along.
    pub(super) fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }

    pub(super) fn asked_times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Transport for Peer {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(format!(" {name}: {value}"))
        };
        let line = format!(
            "{:>3} {} {}{}{} {}",
            (self.clock.now() - start()).num_seconds(),
            request.method(),
            request.uri().path_and_query().unwrap(),
            header(header::AUTHORIZATION.as_str()).unwrap_or_default(),
            header("response-id").unwrap_or_default(),
            String::from_utf8_lossy(request.body()),
        );
        self.asked.lock().unwrap().push(line.trim_end().to_owned());
        let script = if request.uri().path() == "/oauth/token" {
            &self.tokens
        } else {
            &self.data
        };
        let step = script.lock().unwrap().pop_front();
        let (status, headers, body) = match step.unwrap_or(Step::Break("the script is at its end"))
        {
            Step::Break(why) => return Err(TransportError::new(why)),
            Step::Silence => return std::future::pending().await,
            Step::Stall => (200, Vec::new(), stream::pending().boxed()),
            Step::Answer(status, headers, body, after) => {
                self.clock.sleep(after).await;
                (status, headers, stream::iter([Ok(body.into())]).boxed())
            }
        };
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| {
                let value = HeaderValue::try_from(value).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect();
        Ok(Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body,
        })
    }
}
