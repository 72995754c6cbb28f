//! The Azure crates' way out: whatever they send goes through our [`Transport`](super::http::Transport),
//! so that there is one client, and simulators and virtual time hold for them, too.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, Body, ClientOptions, HttpClient, Method, Request, RetryOptions,
        headers::{HeaderName, HeaderValue, Headers},
    },
};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};

use super::http::{SharedTransport, TransportError};
use crate::core::protocol::retry::retry_after;

/// Options for a client of the Azure crates. Their own retries are off: they sleep past our clock,
/// and by default for a minute.
pub(crate) fn client_options(
    transport: &SharedTransport,
    authority: Option<&str>,
    asked_for: &AskedFor,
) -> ClientOptions {
    let transport = AzureTransport {
        transport: Arc::clone(transport),
        asked_for: asked_for.clone(),
    };
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(azure_core::http::Transport::new(Arc::new(transport))),
        cloud: authority.map(|authority| {
            let mut cloud = CustomConfiguration::default();
            authority.clone_into(&mut cloud.authority_host);
            Arc::new(CloudConfiguration::Custom(cloud))
        }),
        ..ClientOptions::default()
    }
}

/// The `Retry-After` of the last answer: the errors of the Azure crates may come without it.
#[derive(Clone, Default)]
pub(crate) struct AskedFor(Arc<Mutex<Option<String>>>);

impl AskedFor {
    /// How long to wait, as seen from `now`.
    pub(crate) fn wait(&self, now: DateTime<Utc>) -> Option<Duration> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_deref().and_then(|value| retry_after(value, now))
    }

    fn note(&self, value: Option<&str>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = value.map(str::to_owned);
    }
}

struct AzureTransport {
    transport: SharedTransport,
    asked_for: AskedFor,
}

impl fmt::Debug for AzureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureTransport")
    }
}

#[async_trait]
impl HttpClient for AzureTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.asked_for.note(None);
        let sent = self.transport.send(converted(request)?).await;
        let response = sent.map_err(failed)?;
        self.asked_for.note(response.header("retry-after"));
        let headers: HashMap<HeaderName, HeaderValue> = response
            .headers
            .iter()
            .filter_map(|(name, value)| {
                let value = value.to_str().ok()?.to_owned();
                Some((name.as_str().to_owned().into(), value.into()))
            })
            .collect();
        let body = response.body.map_err(failed).boxed();
        Ok(AsyncRawResponse::new(
            response.status.as_u16().into(),
            Headers::from(headers),
            body,
        ))
    }
}

fn converted(request: &Request) -> azure_core::Result<super::http::Request> {
    let method = match request.method() {
        Method::Delete => http::Method::DELETE,
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Patch => http::Method::PATCH,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        other => {
            let text = format!("the method {other} can't be sent");
            return Err(Error::with_message(ErrorKind::Other, text));
        }
    };
    let mut built = http::Request::builder()
        .method(method)
        .uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        built = built.header(name.as_str(), value.as_str());
    }
    let Body::Bytes(body) = request.body() else {
        let text = "a body that is a stream can't be sent";
        return Err(Error::with_message(ErrorKind::Other, text));
    };
    built
        .body(body.clone())
        .map_err(|error| Error::new(ErrorKind::Other, error))
}

fn failed(error: TransportError) -> Error {
    Error::new(ErrorKind::Io, error)
}
