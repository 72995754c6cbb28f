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

    /// True when a web page came, as of a proxy or for people who shall sign in.
    pub fn is_page(&self) -> bool {
        self.header("content-type")
            .is_some_and(|kind| kind.trim_start().starts_with("text/html"))
    }

    /// A header's value, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The exchange failed below HTTP: no connection, or it died. Whether the peer saw the request is
/// not known. The text holds no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TransportError {
    text: String,
    cause: Cause,
}

/// How much is known of why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// As much as the text says.
    Other,
    /// The address leads to nobody; the text names it and the fix.
    Unreachable,
    /// Something stands in the way; the text names it and the fix.
    Blocked,
}

impl TransportError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            cause: Cause::Other,
        }
    }

    /// An error that stays until the operator changes what stands in the way; the text says how.
    pub fn blocked(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            cause: Cause::Blocked,
        }
    }

    /// True when no further try helps until the operator has acted.
    pub fn is_blocked(&self) -> bool {
        self.cause == Cause::Blocked
    }

    /// True when the text names the host and the fix.
    pub fn names_fix(&self) -> bool {
        self.cause != Cause::Other
    }
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        if error.is_blocked() {
            Self::config(error.text)
        } else {
            Self::transient(error.text)
        }
    }
}

/// The error of an exchange with `host` (and its port) whose causes, one after the other, read like
/// this.
fn told(host: &str, causes: String) -> TransportError {
    let unreachable = |text| TransportError {
        text,
        cause: Cause::Unreachable,
    };
    if causes.contains("dns error") {
        return unreachable(format!(
            "the name of `{host}` does not resolve: correct it in the settings, or `HTTPS_PROXY` if \
             that is set"
        ));
    }
    // As Linux and Windows have it.
    if causes.contains("Connection refused") || causes.contains("os error 10061") {
        return unreachable(format!(
            "nobody listens at `{host}`: correct the address in the settings, or `HTTPS_PROXY` if \
             that is set"
        ));
    }
    if causes.contains("InvalidContentType") {
        return TransportError::blocked(format!(
            "`{host}` speaks no TLS: correct host and port in the settings"
        ));
    }
    if causes.contains("UnknownIssuer") {
        return TransportError::blocked(format!(
            "the certificate of `{host}` is not trusted (UnknownIssuer): if a proxy inspects TLS, \
             name the file with its authority's certificate in `EXTRA_CA_FILE`"
        ));
    }
    if causes.contains("proxy authorization required") {
        return wants_login(host);
    }
    // rustls names both times, as seconds since 1970.
    if causes.contains("certificate not valid yet") {
        return TransportError::blocked(format!(
            "the certificate of `{host}` is not valid yet by the clock of this machine, which is \
             behind: set it right"
        ));
    }
    if causes.contains("certificate expired") {
        return TransportError::blocked(format!(
            "the certificate of `{host}` has ended by the clock of this machine: set the clock \
             right if it is ahead; else whoever runs `{host}`, or a proxy that inspects TLS, has to \
             renew it"
        ));
    }
    TransportError::new(causes)
}

/// The error of a proxy's 407.
fn wants_login(host: &str) -> TransportError {
    TransportError::blocked(format!(
        "the proxy in front of `{host}` wants a login (407 Proxy Authentication Required): put it \
         into `HTTPS_PROXY` (`http://USER:PASSWORD@PROXY:PORT`), or let the proxy admit `{host}` \
         without; if it inspects TLS, name its authority's certificate in `EXTRA_CA_FILE`"
    ))
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
        let uri = request.uri();
        let host = uri.host().unwrap_or_default();
        let host = match uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let request =
            reqwest::Request::try_from(request.map(reqwest::Body::from)).map_err(failed)?;
        let response = self.client()?.execute(request).await;
        let response = response.map_err(|error| told(&host, chain(&error.without_url())))?;
        // No service of ours is a proxy.
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(wants_login(&host));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// As rustls 0.23 spells them.
    #[test]
    fn a_certificate_of_another_time_is_told_as_a_clock() {
        for (causes, word) in [
            (
                "invalid peer certificate: certificate not valid yet: verification time 1760000000 \
                 (UNIX), but certificate is not valid before 1764000000 (4000000 seconds in future)",
                "behind",
            ),
            (
                "invalid peer certificate: certificate expired: verification time 1790000000 (UNIX), \
                 but certificate is not valid after 1764000000 (26000000 seconds ago)",
                "ahead",
            ),
        ] {
            let error = told("login.example", causes.to_owned());
            assert!(error.is_blocked());
            let text = error.to_string();
            assert!(text.contains("clock") && text.contains(word), "{text}");
            assert!(!text.contains("EXTRA_CA_FILE"), "{text}");
        }
    }

    #[test]
    fn what_a_proxy_does_is_named_with_its_fix_and_no_further_try_helps() {
        let inspected = told(
            "login.example",
            "error sending request: client error (Connect): invalid peer certificate: \
             UnknownIssuer"
                .to_owned(),
        );
        let login = told(
            "graph.example",
            "error sending request: client error (Connect): tunnel error: proxy authorization \
             required"
                .to_owned(),
        );
        for (error, host, word) in [
            (inspected, "`login.example`", "UnknownIssuer"),
            (login, "`graph.example`", "407"),
        ] {
            assert!(error.is_blocked());
            let error = Error::from(error);
            assert_eq!(error.kind(), Kind::Config);
            let text = error.to_string();
            assert!(text.contains(host) && text.contains(word), "{text}");
            assert!(text.contains("EXTRA_CA_FILE"), "{text}");
        }
        let other = told("login.example", "connection reset by peer".to_owned());
        assert!(!other.names_fix());
        assert!(!other.is_blocked());
        assert_eq!(Error::from(other).kind(), Kind::Transient);
    }
    /// A server's loopback port: who listens there is told by what the network says.
    async fn failure(url: String) -> String {
        let request = http::Request::get(url).body(Bytes::new()).unwrap();
        let network = Network::loopback(ROOT.as_bytes()).unwrap();
        let Err(error) = network.send(request).await else {
            panic!("an error");
        };
        assert!(error.names_fix(), "{error}");
        assert_eq!(error.is_blocked(), error.text.contains("TLS"), "{error}");
        error.to_string()
    }

    const ROOT: &str = include_str!("../../tests/fixtures/app-certificate.crt");

    #[tokio::test]
    async fn an_address_that_leads_nowhere_is_named_with_its_fix() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain = axum::serve(listener, axum::Router::new());
        let plain = tokio::spawn(plain.into_future());
        assert_eq!(
            failure(format!("https://{address}/x")).await,
            format!("`{address}` speaks no TLS: correct host and port in the settings")
        );
        plain.abort();
        drop(plain.await);
        assert_eq!(
            failure(format!("https://{address}/x")).await,
            format!(
                "nobody listens at `{address}`: correct the address in the settings, or \
                 `HTTPS_PROXY` if that is set"
            )
        );
        // Names below `invalid` never resolve (RFC 6761).
        assert_eq!(
            failure("https://nobody.invalid/x".to_owned()).await,
            "the name of `nobody.invalid` does not resolve: correct it in the settings, or \
             `HTTPS_PROXY` if that is set"
        );
    }
}
