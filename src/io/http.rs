//! One HTTP exchange: [`Transport`] is either the one reqwest client or an in-process router.

use std::{sync::Arc, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use http::{HeaderMap, StatusCode};
use tower::ServiceExt;

use crate::error::{Error, Result};

/// A request whose body is complete.
pub type Request = http::Request<Bytes>;

/// The body of an answer, as it arrives.
pub type Body = BoxStream<'static, std::result::Result<Bytes, TransportError>>;

/// The largest answer that is read whole (tokens, single objects, error texts).
pub const MAX_WHOLE_BODY: usize = 8 << 20;

/// How many bytes of an answer may arrive before somebody reads them: enough for a fast line, and
/// little enough to hold in memory.
const READ_AHEAD: u32 = 512 << 10;

/// An answer: status first, body later.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, not read yet.
    pub body: Body,
}

impl Response {
    /// The whole body, for answers that are known to be small.
    pub async fn whole_body(self) -> std::result::Result<Bytes, TransportError> {
        let mut body = self.body;
        let mut whole = Vec::new();
        while let Some(part) = body.try_next().await? {
            if whole.len() + part.len() > MAX_WHOLE_BODY {
                return Err(TransportError::new("the answer is longer than 8 MiB"));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.into())
    }

    /// When the peer answered, by its own clock.
    pub fn date(&self) -> Option<DateTime<Utc>> {
        let date = DateTime::parse_from_rfc2822(self.header("date")?).ok()?;
        Some(date.to_utc())
    }

    /// A header's value, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The exchange failed below HTTP: no connection, or it died. Whether the peer saw the request is
/// not known. The text holds no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(String);

impl TransportError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Sends one request and comes back with the status; the body follows as a stream.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// One exchange, without any retry.
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError>;
}

/// A transport that can be shared.
pub type SharedTransport = Arc<dyn Transport>;

/// The network. The client is built on first use, so that a start costs nothing.
pub struct Network {
    client: OnceLock<reqwest::Client>,
    proxies: bool,
    roots: Vec<reqwest::Certificate>,
}

impl Network {
    /// The network, trusting the system's roots and those in `extra_roots` (PEM).
    pub fn new(extra_roots: Option<&[u8]>) -> Result<Self> {
        let roots = match extra_roots {
            None => Vec::new(),
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|roots| !roots.is_empty())
                .ok_or_else(|| Error::config("`EXTRA_CA_FILE` holds no PEM certificate"))?,
        };
        Ok(Self {
            client: OnceLock::new(),
            proxies: true,
            roots,
        })
    }

    /// This machine only, trusting these roots (PEM) as well: a proxy of the system's could not
    /// reach it.
    pub fn loopback(roots: &[u8]) -> Result<Self> {
        Ok(Self {
            proxies: false,
            ..Self::new(Some(roots))?
        })
    }

    fn client(&self) -> std::result::Result<&reqwest::Client, TransportError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // An error means that somebody was first, which is what we want.
        drop(rustls::crypto::ring::default_provider().install_default());
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the one place that builds a client"
        )]
        let builder = reqwest::Client::builder();
        let builder = if self.proxies {
            builder
        } else {
            builder.no_proxy()
        };
        let client = builder
            .user_agent(concat!("sentinel-connector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .http2_initial_stream_window_size(READ_AHEAD)
            .http2_initial_connection_window_size(2 * READ_AHEAD)
            // A bearer token must not travel to wherever an answer points.
            .redirect(reqwest::redirect::Policy::none())
            // Names below `localhost` are this machine (RFC 6761), but not every resolver knows.
            .resolve("vault.localhost", (std::net::Ipv4Addr::LOCALHOST, 0).into())
            .tls_certs_merge(self.roots.iter().cloned())
            .build()
            .map_err(|error| TransportError::new(chain(&error)))?;
        Ok(self.client.get_or_init(|| client))
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let request =
            reqwest::Request::try_from(request.map(reqwest::Body::from)).map_err(failed)?;
        let response = self.client()?.execute(request).await.map_err(failed)?;
        Ok(Response {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes_stream().map_err(failed).boxed(),
        })
    }
}

/// Without the URL: it may hold a token.
fn failed(error: reqwest::Error) -> TransportError {
    TransportError::new(chain(&error.without_url()))
}

/// An error with its causes: reqwest's own text rarely says more than "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[async_trait]
impl Transport for axum::Router {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let request = request.map(axum::body::Body::from);
        let response = match self.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        let body = body
            .into_data_stream()
            .map_err(|error| TransportError::new(chain(&error)))
            .boxed();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}
