//! Requests that were read whole, and answers that faults can still change.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::listing::{Lines, Listing, Pieces, Written};
use crate::io::clock::SharedClock;

/// No real service reads more than this.
const MAX_BODY: usize = 64 << 20;

/// Marks a response whose connection has to die before any of it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLost;

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: Method,
    /// Scheme, host and port, for links back.
    pub(crate) origin: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Incoming {
    pub(crate) async fn read(request: Request<Body>) -> Result<Self, Answer> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY)
            .await
            .map_err(|_| Answer::status(StatusCode::PAYLOAD_TOO_LARGE))?;
        let query = pairs(head.uri.query().unwrap_or_default());
        let path = head.uri.path().to_owned();
        // HTTP/1.1 names it in a header, HTTP/2 in the URI.
        let named = head
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let authority = authority.or(named).unwrap_or_default();
        let scheme = head.uri.scheme_str().unwrap_or("https");
        let origin = format!("{scheme}://{authority}");
        Ok(Self {
            method: head.method,
            origin,
            path,
            query,
            headers: head.headers,
            body,
        })
    }

    /// Host and port that were asked.
    pub(crate) fn authority(&self) -> &str {
        self.origin
            .split_once("://")
            .map_or("", |(_, authority)| authority)
    }

    /// A header's value, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The token of an `Authorization: Bearer` header.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }

    /// A non-empty query parameter, in camelCase or `snake_case`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(given, _)| camel(given) == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The body as a form, when it says that it is one.
    pub(crate) fn form(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type")?;
        kind.starts_with("application/x-www-form-urlencoded")
            .then(|| pairs(&String::from_utf8_lossy(&self.body)))
    }

    /// The path and the query, without tokens.
    pub(crate) fn shown(&self) -> String {
        let mut shown = self.path.clone();
        for (at, (name, value)) in self.query.iter().enumerate() {
            let secret = matches!(
                camel(name).as_str(),
                "pageToken" | "deltaToken" | "$skiptoken" | "sig"
            );
            shown.push(if at == 0 { '?' } else { '&' });
            shown.push_str(name);
            shown.push('=');
            shown.push_str(if secret && value != "latest" {
                "…"
            } else {
                value
            });
        }
        shown
    }
}

/// The value of a form's field.
pub(crate) fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter()
        .find(|(key, _)| key == name)
        .map_or("", |(_, value)| value)
}

/// `page_size` → `pageSize`.
pub(crate) fn camel(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                text.push(letter.to_ascii_uppercase());
                upper = false;
            }
            _ => text.push(letter),
        }
    }
    text
}

/// The pairs of a query or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                decode(&name.replace('+', " ")),
                decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What an answer holds.
#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    Json(Value),
    Written(Written),
    List(Box<Listing>),
    Gzip(Lines),
    Html(&'static str),
    Xml(String),
}

impl Content {
    /// How many records there are, when it is a list.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::List(listing) => Some(listing.count),
            Self::Gzip(lines) => Some(lines.count),
            _ => None,
        }
    }

    /// JSON as a value, for a fault that changes it.
    pub(crate) fn value(&mut self) -> Option<&mut Value> {
        if let Self::List(_) = self
            && let Self::List(listing) = std::mem::replace(self, Self::Empty)
        {
            *self = Self::Json(listing.whole());
        }
        match self {
            Self::Json(value) => Some(value),
            _ => None,
        }
    }
}

/// How the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// Half of the body, then a clean end.
    Truncated,
    /// Half of the body, then the connection dies.
    Cut,
    /// Half of the body, then silence for as long as this.
    Stalled(Duration),
    /// The connection dies before the answer.
    Lost,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
    pub(crate) end: End,
}

impl Answer {
    /// A status with an empty body.
    pub(crate) fn status(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: Content::Empty,
            end: End::Whole,
        }
    }

    /// 400 with an empty body.
    pub(crate) fn bad_request() -> Self {
        Self::status(StatusCode::BAD_REQUEST)
    }

    /// 404 with an empty body.
    pub(crate) fn not_found() -> Self {
        Self::status(StatusCode::NOT_FOUND)
    }

    /// 200 with a body that no fault changes.
    pub(crate) fn written(body: Written) -> Self {
        Self {
            content: Content::Written(body),
            ..Self::status(StatusCode::OK)
        }
    }

    /// A status with JSON.
    pub(crate) fn json(status: StatusCode, value: Value) -> Self {
        Self {
            content: Content::Json(value),
            ..Self::status(status)
        }
    }

    /// 200 with JSON.
    pub(crate) fn ok(value: Value) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// 200 with a web page.
    pub(crate) fn rubbish() -> Self {
        let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in \
                    to the network.</body></html>";
        Self {
            content: Content::Html(page),
            ..Self::status(StatusCode::OK)
        }
    }

    /// The same answer with a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn into_response(self, clock: &SharedClock) -> Response<Body> {
        let one = |bytes: Bytes| -> Pieces { Box::new(std::iter::once(bytes)) };
        let (kind, mut pieces) = match self.content {
            Content::Empty => (None, one(Bytes::new())),
            Content::Json(value) => (Some("application/json"), one(value.to_string().into())),
            Content::Written(body) => (Some(body.kind), body.pieces),
            Content::List(listing) => (Some("application/json"), listing.pieces()),
            Content::Gzip(lines) => (Some("application/octet-stream"), lines.pieces()),
            Content::Html(page) => (Some("text/html; charset=utf-8"), one(page.into())),
            Content::Xml(text) => (Some("application/xml"), one(text.into())),
        };
        let first = pieces.next().unwrap_or_default();
        let half = first.slice(..first.len() / 2);
        let dead = |half| {
            let clock = Arc::clone(clock);
            let death = async move {
                // HTTP/2 forgets what it has not delivered when a stream is reset.
                clock.sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("the connection died"))
            };
            Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(death)))
        };
        let whole = |pieces: Pieces| stream::iter(pieces.map(Ok::<_, std::io::Error>));
        let mut response = Response::new(match self.end {
            End::Whole => match pieces.next() {
                // A body of one piece tells its length.
                None => Body::from(first),
                Some(second) => {
                    Body::from_stream(whole(Box::new([first, second].into_iter().chain(pieces))))
                }
            },
            End::Truncated => Body::from(half),
            End::Cut => dead(half),
            End::Stalled(time) => {
                let clock = Arc::clone(clock);
                let rest = first.slice(first.len() / 2..);
                let rest = async move {
                    clock.sleep(time).await;
                    Ok(rest)
                };
                let rest = stream::once(rest).chain(whole(pieces));
                Body::from_stream(stream::iter([Ok(half)]).chain(rest))
            }
            End::Lost => dead(Bytes::new()),
        });
        *response.status_mut() = self.status;
        if self.end == End::Lost {
            // A router can't kill a connection; whoever serves it can. Without that, a gateway
            // that gave up stands for the lost answer.
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            response.extensions_mut().insert(ConnectionLost);
        }
        if let Some(kind) = kind {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
