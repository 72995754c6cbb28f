//! One request to the storage account, signed, and asked again until there is an answer.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;

use super::{
    account::Account,
    answer::{Answer, Verdict, fix, verdict},
    auth::{Authorization, Credential, Kind, Unsigned},
};
use crate::{
    core::{position::window::delta, protocol::retry::retry_after},
    error::{Attempt, Error, Result},
    io::{
        clock::timeout,
        http::{Request, TransportError},
        retry::{Limits, RetryBudget},
        wire::Wire,
    },
};

/// The version of the services that we speak: the first in which tables take access tokens
/// (learn.microsoft.com/rest/api/storageservices/previous-azure-storage-service-versions).
const VERSION: &str = "2020-12-06";

/// How long one exchange may take. The services' own limits are lower for what we ask.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a request is asked again: less than a lease outlives its run.
const BUDGET: Duration = Duration::from_secs(25);

/// How often a request is asked again.
const MAX_FAILURES: u32 = 5;

/// The largest answer: a page of entities or blobs, or one blob of ours.
const MAX_BODY: usize = 64 << 20;

/// What is written as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request, not signed yet.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    /// Below the service's address, ready to be sent.
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    #[must_use]
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A header of the services' own, in lower case.
    #[must_use]
    pub(super) fn service_header(self, name: &'static str, value: impl Into<String>) -> Self {
        self.header(HeaderName::from_static(name), value)
    }

    #[must_use]
    pub(super) fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(header::CONTENT_TYPE, kind)
    }
}

/// The Table, the Blob or the Queue service of an account.
#[derive(Clone)]
pub(super) struct Service {
    kind: Kind,
    account: String,
    url: String,
    credential: Credential,
    budget: Duration,
    wire: Wire,
}

impl Service {
    pub(super) fn new(kind: Kind, account: &Account, wire: &Wire) -> Self {
        let url = match kind {
            Kind::Table => account.table_url.as_str(),
            Kind::Blob => &account.blob_url,
            Kind::Queue => account.queue_url.as_deref().unwrap_or_default(),
        };
        Self {
            kind,
            account: account.name.clone(),
            url: url.to_owned(),
            credential: account.credential.clone(),
            budget: BUDGET,
            wire: wire.clone(),
        }
    }

    /// This service, asked no longer than this.
    pub(super) fn within(&self, budget: Duration) -> Self {
        Self {
            budget,
            ..self.clone()
        }
    }

    /// Service and account, for error texts.
    pub(super) fn place(&self) -> String {
        let kind = match self.kind {
            Kind::Table => "table",
            Kind::Blob => "blob",
            Kind::Queue => "queue",
        };
        format!("{kind} storage of account `{}`", self.account)
    }

    /// Asks until there is an answer. It says that something was done, is not there, is there
    /// already or was changed meanwhile; a request that is asked again may meet its own work.
    ///
    /// # Errors
    /// `Transient` when the time or the attempts are used up, `Config` when the account refuses us,
    /// `Contract` for whatever was not agreed on.
    pub(super) async fn ask(&self, call: &Call) -> Result<Answer> {
        let deadline = self.wire.clock.now() + delta(self.budget);
        let limits = Limits::until(deadline);
        let mut budget = RetryBudget::new(
            &*self.wire.clock,
            &self.wire.random,
            deadline,
            MAX_FAILURES + 1,
        );
        let mut refused: Option<SecretString> = None;
        loop {
            let (request, token) = self.signed(call, refused.as_ref(), &limits).await?;
            budget.attempt();
            let exchange = self.exchange(request, &limits).await;
            let attempt = Attempt {
                status: exchange.as_ref().ok().map(|answer| answer.status),
                ..self.attempt(call)
            };
            let failed = |error: Error| budget.counted(error.of(attempt.clone()));
            let (what, asked_for) = match exchange {
                Err(error) if error.is_blocked() => return Err(failed(error.into())),
                Err(error) => (error.to_string(), None),
                Ok(answer) => match verdict(answer.status, &answer.code) {
                    Verdict::Hand => return Ok(answer),
                    Verdict::Retry => {
                        let asked_for = answer.header("retry-after");
                        let now = self.wire.clock.now();
                        let asked_for = asked_for.and_then(|value| retry_after(value, now));
                        (answer.described(), asked_for)
                    }
                    // A token can be withdrawn before it expires.
                    Verdict::Refused
                        if token.is_some() && refused.is_none() && answer.is_about_token() =>
                    {
                        tracing::debug!(account = self.account, "storage refuses the access token");
                        refused = token;
                        continue;
                    }
                    Verdict::Refused => {
                        let fix = fix(&answer.code, self.credential.is_key(), self.kind);
                        let what = answer.described();
                        return Err(failed(Error::config(format!("{what}: {fix}"))));
                    }
                    Verdict::Unexpected => {
                        return Err(failed(Error::contract(answer.described())));
                    }
                },
            };
            let error = Error::transient(what).of(attempt);
            let Ok(wait) = budget.failed(asked_for) else {
                return Err(budget.counted(error).given_up("the next run tries again"));
            };
            tracing::debug!(%error, ?wait, "storage: asking again");
            self.wire.clock.sleep(wait).await;
        }
    }

    fn attempt(&self, call: &Call) -> Attempt {
        Attempt {
            name: Some(self.place()),
            ..Attempt::new(call.method.clone(), call.path.as_str())
        }
    }

    /// The request, and the access token in it.
    async fn signed(
        &self,
        call: &Call,
        refused: Option<&SecretString>,
        limits: &Limits,
    ) -> Result<(Request, Option<SecretString>)> {
        let invalid = |what: &str| Error::contract(what).of(self.attempt(call));
        let mut headers = HeaderMap::new();
        let now = self.wire.clock.now();
        let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let own = [("x-ms-date", date.as_str()), ("x-ms-version", VERSION)]
            .map(|(name, value)| (HeaderName::from_static(name), value));
        let given = call.headers.iter();
        let given = given.map(|(name, value)| (name.clone(), value.as_str()));
        for (name, value) in own.into_iter().chain(given) {
            let value = HeaderValue::from_str(value).map_err(|_| invalid("not a header value"))?;
            headers.insert(name, value);
        }
        if call.method == Method::PUT || call.method == Method::POST {
            headers.insert(header::CONTENT_LENGTH, call.body.len().into());
        }
        let mut url = format!("{}{}", self.url, call.path);
        for (at, (name, value)) in call.query.iter().enumerate() {
            let value = utf8_percent_encode(value, QUERY);
            let mark = if at == 0 { '?' } else { '&' };
            url = format!("{url}{mark}{name}={value}");
        }
        let uri: Uri = url.parse().map_err(|_| invalid("not a URL"))?;
        let unsigned = Unsigned {
            kind: self.kind,
            account: &self.account,
            method: &call.method,
            path: uri.path(),
            query: &call.query,
            headers: &headers,
            length: call.body.len(),
        };
        let authorization = self.credential.authorize(&unsigned, refused, limits).await;
        let Authorization { value, token } =
            authorization.map_err(|error| error.context(self.place()))?;
        headers.insert(header::AUTHORIZATION, value);
        let mut request = Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok((request, token))
    }

    /// One exchange, the body included: it may die as well.
    async fn exchange(
        &self,
        request: Request,
        limits: &Limits,
    ) -> std::result::Result<Answer, TransportError> {
        let limit = limits.left(&*self.wire.clock).min(EXCHANGE_TIMEOUT);
        let whole = async {
            let response = self.wire.transport.send(request).await?;
            let (status, headers, mut body) = (response.status, response.headers, response.body);
            let mut bytes = Vec::new();
            while let Some(part) = body.try_next().await? {
                if bytes.len() + part.len() > MAX_BODY {
                    return Err(TransportError::new("the answer is longer than 64 MiB"));
                }
                bytes.extend_from_slice(&part);
            }
            Ok(Answer::new(status, headers, bytes.into()))
        };
        let answer = timeout(&*self.wire.clock, limit, whole).await;
        answer.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(TransportError::new(format!("no answer within {seconds} s")))
        })
    }
}
