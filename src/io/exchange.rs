//! One question to a service, asked until there is an answer or the time is up.
//!
//! What an answer means is decided by [`core::retry`](crate::core::protocol::retry); this is the loop around
//! it, which knows the deadline, the rate limit and the access token.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use super::{
    clock::{SharedClock, timeout},
    http::{Request, Response, TransportError},
    limiter::Limiter,
    retry::{Limits, RetryBudget, Spent},
    token::{Rejected, SharedTokens, same},
    trail::Trail,
    wire::Wire,
};
use crate::{
    core::protocol::{
        odata::{self, ErrorDialect, Refusal},
        retry::{Action, Sent, action, retry_after},
    },
    error::{Attempt, Error, Result},
};

/// How long one exchange may take until its status is there. ESET answers 202 after 30 to 50 s.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(75);

/// How often a question is asked again after a failure.
const MAX_FAILURES: u32 = 5;

/// How often a refused access token is replaced: by a refreshed one, then by one for the password.
const NEW_TOKENS: u32 = 2;

/// How long a pending answer is waited for before it is asked for again.
const PENDING_WAIT: Duration = Duration::from_secs(2);

/// How often a 404 that says that there is nothing is asked again before it is believed, and after
/// how long.
const EMPTIES: u32 = 2;
const EMPTY_WAIT: Duration = Duration::from_secs(2);

/// How a service wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOptions {
    /// Headers of every request.
    pub headers: &'static [(&'static str, &'static str)],
    /// What the words of a refusal go by; none when its status says everything.
    pub asks: Option<ErrorDialect>,
    /// How long one exchange may take until its status is there.
    pub patience: Duration,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            headers: &[],
            asks: None,
            patience: EXCHANGE_TIMEOUT,
        }
    }
}

/// A question.
#[derive(Clone)]
pub struct ApiRequest {
    /// Who asks, for error texts: a stream, or `eset login`.
    pub name: String,
    /// The method.
    pub method: Method,
    /// The whole URL. It is never printed; errors show its path.
    pub url: String,
    /// The content type and the body, if there is one.
    pub body: Option<(&'static str, Bytes)>,
    /// The URL holds a page or delta token that the service may have forgotten.
    pub has_position: bool,
    /// How the service wants to be asked.
    pub manner: RequestOptions,
}

impl std::fmt::Debug for ApiRequest {
    /// Without what may hold tokens and passwords: the query and the body.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Question").field(&place(self)).finish()
    }
}

/// What came of a question.
pub enum Reply {
    /// An answer with status 200, its body not read yet.
    Answer(Response),
    /// The page or delta token is refused; the text says how.
    PositionRefused(Answered),
    /// The service says that it does not offer this.
    NotOffered(Answered),
    /// As if there were no such thing, without a word of the service that says so.
    NotThere(Answered),
    /// The answer would be too much for the service, or for us: less has to be asked for.
    TooLarge(Answered),
    /// The tenant's share of the service is used up for now.
    UsedUp(Answered),
    /// The account may not see this, or the service wants an access token and was asked without.
    Forbidden(Answered),
    /// A status that nothing was agreed on for, with its answer.
    Unexpected(Answered, Response),
}

/// Asks questions of one service for one account.
#[derive(Clone)]
pub struct ApiClient {
    wire: Wire,
    limiter: Arc<Limiter>,
    /// Where access tokens come from, and for what scope.
    tokens: Option<(SharedTokens, String)>,
}

impl ApiClient {
    /// Asks through `wire`, without an access token.
    pub fn new(wire: Wire, limiter: Arc<Limiter>) -> Self {
        Self {
            wire,
            limiter,
            tokens: None,
        }
    }

    /// This client, with access tokens for `scope`.
    #[must_use]
    pub fn with_tokens(&self, tokens: SharedTokens, scope: &str) -> Self {
        Self {
            tokens: Some((tokens, scope.to_owned())),
            ..self.clone()
        }
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &SharedClock {
        &self.wire.clock
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// `Transient` when the time or the attempts are used up, or the program is to stop; whatever
    /// the tokens failed with; `Config` when new tokens are refused as well.
    pub async fn ask(&self, question: &ApiRequest, limits: &Limits) -> Result<Reply> {
        let mut tries = Tries::new(&self.wire, question, limits);
        let mut refused: Option<SecretString> = None;
        let mut refusals = 0;
        let mut response_id: Option<HeaderValue> = None;
        let mut empties = 0;
        let mut with_roles: Option<SecretString> = None;
        loop {
            let rejected = refused.as_ref().map(Rejected::Refused);
            let token = match with_roles.clone() {
                None => self.token(rejected, limits).await?,
                better => better,
            };
            self.turn(&tries).await?;
            let mut request = build(question, token.as_ref(), response_id.as_ref())?;
            request.extensions_mut().insert(tries.trail.clone());
            let sent = Sent {
                response_id: response_id.is_some(),
                position: question.has_position,
            };
            tries.budget.attempt();
            limits.calls.called();
            let exchange = self.wire.transport.send(request);
            let exchange = self
                .within(limits, question.manner.patience, exchange)
                .await;
            tries.status = exchange.as_ref().ok().map(|response| response.status);
            let (what, wait) = match exchange {
                Err(error) if error.is_blocked() => return Err(tries.failed(error.into())),
                Err(error) => (error.to_string(), None),
                Ok(response) => {
                    let (response, refusal) =
                        self.understood(question, response, sent, limits).await;
                    let what = with_warning(question, &response, refusal.what);
                    let answered = || tries.answered(&what);
                    match refusal.action {
                        Action::Accept => return Ok(Reply::Answer(data(question, response))),
                        Action::Empty if empties == EMPTIES => {
                            return Ok(Reply::Answer(nothing(response)));
                        }
                        // Much hangs on it that there is nothing.
                        Action::Empty => {
                            empties += 1;
                            self.pause(&tries, EMPTY_WAIT, &what).await?;
                            continue;
                        }
                        Action::TooLarge => return Ok(Reply::TooLarge(answered())),
                        Action::UsedUp => return Ok(Reply::UsedUp(answered())),
                        Action::PositionRefused => return Ok(Reply::PositionRefused(answered())),
                        Action::NotOffered => return Ok(Reply::NotOffered(answered())),
                        Action::NotThere => return Ok(Reply::NotThere(answered())),
                        // Consent may be younger than the token.
                        Action::Forbidden if refusal.lacks_role && with_roles.is_none() => {
                            with_roles = self.with_roles(token.as_ref(), limits).await;
                            if with_roles.is_none() {
                                return Ok(Reply::Forbidden(answered()));
                            }
                            continue;
                        }
                        Action::Forbidden => return Ok(Reply::Forbidden(answered())),
                        Action::Unexpected => return Ok(Reply::Unexpected(answered(), response)),
                        Action::Pending => {
                            // A later 202 may leave out the id, which is good all the same.
                            let id = response.headers.get("response-id").cloned();
                            response_id = id.or(response_id);
                            let wait = self.asked_for(&response).unwrap_or(PENDING_WAIT);
                            self.pause(&tries, wait, &what).await?;
                            continue;
                        }
                        Action::StartOver => {
                            response_id = None;
                            (what, None)
                        }
                        Action::Authorize if self.tokens.is_none() => {
                            return Ok(Reply::Forbidden(answered()));
                        }
                        Action::Authorize if refusals < NEW_TOKENS => {
                            tracing::debug!(question = question.name, "access token refused");
                            refused = token;
                            with_roles = None;
                            refusals += 1;
                            continue;
                        }
                        Action::Authorize => {
                            let fix = "even with a new access token: check the account's rights";
                            return Err(tries.failed(Error::config(format!("{what} {fix}"))));
                        }
                        Action::Retry => {
                            let asked_for = self.asked_for(&response).or(refusal.wait);
                            (what, asked_for)
                        }
                    }
                }
            };
            self.again(&mut tries, wait, &what).await?;
        }
    }

    /// Waits for the next try of a question that failed.
    async fn again(
        &self,
        tries: &mut Tries<'_>,
        asked_for: Option<Duration>,
        what: &str,
    ) -> Result<()> {
        let wait = match tries.budget.failed(asked_for) {
            Ok(wait) => wait,
            Err(Spent::NoTime(wait)) => return Err(tries.no_time(what, wait)),
            Err(Spent::Often) => {
                let error = tries.failed(Error::transient(what));
                return Err(error.given_up("the next run goes on from here"));
            }
        };
        let name = &tries.question.name;
        tracing::debug!(question = name, %what, ?wait, "asking again");
        self.pause(tries, wait, what).await?;
        tries.limits.calls.retried();
        Ok(())
    }

    /// What an answer means: by its status, or by the words of a refusal.
    async fn understood(
        &self,
        question: &ApiRequest,
        response: Response,
        sent: Sent,
        limits: &Limits,
    ) -> (Response, Refusal) {
        let plain = |action, what| Refusal {
            action,
            lacks_role: false,
            wait: None,
            what,
        };
        let Some(asks) = question.manner.asks else {
            let refusal = plain(action(response.status, sent), described(&response));
            return (response, refusal);
        };
        if response.status == StatusCode::OK {
            return (response, plain(Action::Accept, String::new()));
        }
        let (status, headers) = (response.status, response.headers.clone());
        let body = self.within(limits, EXCHANGE_TIMEOUT, response.whole_body());
        // A refusal whose words break off is one without words.
        let body = body.await.unwrap_or_default();
        let refusal = odata::refusal(asks, status, sent, &body);
        let response = Response {
            status,
            headers,
            body: Box::pin(stream::once(async { Ok(body) })),
        };
        (response, refusal)
    }

    async fn token(
        &self,
        rejected: Option<Rejected<'_>>,
        limits: &Limits,
    ) -> Result<Option<SecretString>> {
        let Some((tokens, scope)) = &self.tokens else {
            return Ok(None);
        };
        tokens.token(scope, rejected, limits).await.map(Some)
    }

    /// Another token than one that lacks a role, if there is one.
    async fn with_roles(
        &self,
        lacks: Option<&SecretString>,
        limits: &Limits,
    ) -> Option<SecretString> {
        let lacks = lacks?;
        let other = self.token(Some(Rejected::LacksRole(lacks)), limits).await;
        other.ok()?.filter(|other| !same(other, lacks))
    }

    /// Waits for the rate limit to let the question through, but not beyond the deadline.
    async fn turn(&self, tries: &Tries<'_>) -> Result<()> {
        let left = tries.limits.left(&*self.wire.clock);
        let turn = timeout(&*self.wire.clock, left, self.limiter.ready());
        // A wait that was cut short is judged by the deadline.
        let turn = async { turn.await.unwrap_or_default() };
        let what = "its turn within the limit of calls a second";
        self.wait(tries, what, turn).await
    }

    /// The whole body of a small answer, within the limits that the question had.
    pub async fn whole_body(
        &self,
        question: &ApiRequest,
        response: Response,
        limits: &Limits,
    ) -> Result<Bytes> {
        self.within(limits, EXCHANGE_TIMEOUT, response.whole_body())
            .await
            .map_err(|error| {
                let attempt = attempt(question, Some(StatusCode::OK));
                Error::transient(error.to_string()).of(attempt)
            })
    }

    async fn within<T>(
        &self,
        limits: &Limits,
        patience: Duration,
        work: impl Future<Output = std::result::Result<T, TransportError>>,
    ) -> std::result::Result<T, TransportError> {
        let left = limits.left(&*self.wire.clock);
        let limit = left.min(patience);
        tokio::select! {
            done = timeout(&*self.wire.clock, limit, work) => {
                done.unwrap_or_else(|_| Err(TransportError::new(format!(
                    "no answer within {} s", limit.as_secs()
                ))))
            }
            () = limits.stop.cancelled() => Err(TransportError::new("asked to stop")),
        }
    }

    fn asked_for(&self, response: &Response) -> Option<Duration> {
        response
            .header("retry-after")
            .and_then(|value| retry_after(value, self.wire.clock.now()))
    }

    /// Waits, unless the wait would go beyond the deadline: then there is no sense in it.
    async fn pause(&self, tries: &Tries<'_>, wait: Duration, what: &str) -> Result<()> {
        if tries.budget.fits(wait).is_err() {
            return Err(tries.no_time(what, wait));
        }
        let next_try = self.wire.clock.sleep(wait);
        self.wait(tries, "the next try", next_try).await
    }

    async fn wait(
        &self,
        tries: &Tries<'_>,
        what: &str,
        future: impl Future<Output = ()>,
    ) -> Result<()> {
        let limits = tries.limits;
        tokio::select! {
            () = future => {}
            () = limits.stop.cancelled() => {}
        }
        if limits.stop.is_cancelled() {
            return Err(Error::transient(
                "asked to stop; the next run goes on from here",
            ));
        }
        if self.wire.clock.now() >= limits.deadline {
            let seconds = tries.budget.elapsed().as_secs();
            return Err(tries.failed(Error::transient(format!(
                "out of time after {seconds} s, waiting for {what}; the next run goes on from here"
            ))));
        }
        Ok(())
    }
}

/// A question that is being asked.
struct Tries<'a> {
    question: &'a ApiRequest,
    limits: &'a Limits,
    budget: RetryBudget<'a>,
    /// The status of the last answer.
    status: Option<StatusCode>,
    trail: Trail,
}

impl<'a> Tries<'a> {
    fn new(wire: &'a Wire, question: &'a ApiRequest, limits: &'a Limits) -> Self {
        let most = MAX_FAILURES + 1;
        Self {
            question,
            limits,
            budget: RetryBudget::new(&*wire.clock, &wire.random, limits.deadline, most),
            status: None,
            trail: Trail::default(),
        }
    }

    fn failed(&self, error: Error) -> Error {
        let attempt = attempt(self.question, self.status);
        self.budget.counted(error.of(attempt))
    }

    fn no_time(&self, what: &str, wait: Duration) -> Error {
        self.failed(Error::transient(what)).without_time_for(wait)
    }

    fn answered(&self, what: &str) -> Answered {
        let attempt = Attempt {
            name: None,
            attempts: self.budget.attempts(),
            elapsed: self.budget.elapsed(),
            ..attempt(self.question, self.status)
        };
        Answered {
            what: what.to_owned(),
            attempt: Some(Box::new(attempt)),
        }
    }
}

/// An answer to go no further with: its meaning in words, and the request behind it.
#[derive(Debug, Clone)]
pub struct Answered {
    what: String,
    attempt: Option<Box<Attempt>>,
}

impl Answered {
    /// An error that was made of this answer.
    pub fn explains(self, error: Error) -> Error {
        match self.attempt {
            Some(attempt) => error.of(*attempt),
            None => error,
        }
    }
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<String> for Answered {
    /// What is known without a request.
    fn from(what: String) -> Self {
        Self {
            what,
            attempt: None,
        }
    }
}

/// A question that was sent once: no host, which may be a proxy's, and no query, which may hold
/// tokens.
fn attempt(question: &ApiRequest, status: Option<StatusCode>) -> Attempt {
    let path = question.url.split_once("://").map_or("", |(_, rest)| rest);
    let path = path.find('/').and_then(|at| path.get(at..)).unwrap_or("/");
    let path = path.split('?').next().unwrap_or_default();
    Attempt {
        name: Some(question.name.clone()),
        status,
        ..Attempt::new(question.method.clone(), path)
    }
}

/// `eset.detections: GET /v1/detections`.
pub fn place(question: &ApiRequest) -> String {
    let attempt = attempt(question, None);
    format!("{}: {} {}", question.name, attempt.method, attempt.place)
}

/// The host of a question's URL.
fn host(question: &ApiRequest) -> &str {
    let rest = question.url.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    // A name and a password may stand in front of it.
    host.rsplit('@').next().unwrap_or_default()
}

/// The answer; in place of a web page one whose body can't be read: a parser's words about its first
/// letter would tell nobody that the service did not answer.
fn data(question: &ApiRequest, response: Response) -> Response {
    if !response.is_page() {
        return response;
    }
    let error = TransportError::new(format!(
        "a web page came in place of data: does a proxy or a sign-in page answer for `{}`? let it \
         admit this app",
        host(question)
    ));
    Response {
        body: Box::pin(stream::once(async { Err(error) })),
        ..response
    }
}

/// A list without records, in place of a 404 that says so.
fn nothing(response: Response) -> Response {
    let body = Bytes::from_static(br#"{"value":[]}"#);
    Response {
        status: StatusCode::OK,
        body: Box::pin(stream::once(async { Ok(body) })),
        ..response
    }
}

fn described(response: &Response) -> String {
    match response.header("request-id") {
        Some(id) if id.len() < 64 => format!("answered {} (request-id {id})", response.status),
        _ => format!("answered {}", response.status),
    }
}

/// What a service of several parts says of those that did not answer, as far as it may be shown.
fn warning(response: &Response) -> Option<String> {
    let said = response.header("warning")?;
    let shown = said.chars().filter(|one| !one.is_control());
    Some(shown.take(200).collect())
}

/// The meaning of an answer, with the warning that came along, which is also logged.
fn with_warning(question: &ApiRequest, response: &Response, what: String) -> String {
    match warning(response) {
        Some(said) => {
            tracing::warn!(question = question.name, said, "the service warns");
            format!("{what} (Warning: {said})")
        }
        None => what,
    }
}

fn build(
    question: &ApiRequest,
    token: Option<&SecretString>,
    response_id: Option<&HeaderValue>,
) -> Result<Request> {
    let mut request = http::Request::builder()
        .method(question.method.clone())
        .uri(&question.url)
        .header(header::ACCEPT, "application/json");
    for (name, value) in question.manner.headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = token {
        let bearer =
            HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map(|mut value| {
                value.set_sensitive(true);
                value
            });
        let bearer = bearer.map_err(|_| {
            Error::contract(format!(
                "{}: the access token is no header value",
                question.name
            ))
        })?;
        request = request.header(header::AUTHORIZATION, bearer);
    }
    if let Some(id) = response_id {
        request = request.header("response-id", id);
    }
    let body = match &question.body {
        None => Bytes::new(),
        Some((kind, body)) => {
            request = request.header(header::CONTENT_TYPE, *kind);
            body.clone()
        }
    };
    request
        .body(body)
        .map_err(|error| Error::config(format!("{}: not a URL: {error}", question.name)))
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
