//! Exchanges as spans and durations, by the conventions for HTTP clients
//! (`opentelemetry.io/docs/specs/semconv/http`).

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use tracing::{Instrument, field::Empty};

use super::{is_measured, record};
use crate::{
    core::metrics::{Amount, EXCHANGE_DURATION, Measure, TRACED},
    io::{
        http::{Request, Response, SharedTransport, Transport, TransportError},
        trail::Trail,
    },
};

/// A transport whose exchanges are traced and measured.
pub fn observed(inner: SharedTransport) -> SharedTransport {
    Arc::new(Observed(inner))
}

struct Observed(SharedTransport);

/// What failed below HTTP, by one word: texts name hosts and fixes.
const NO_ANSWER: &str = "no_answer";

/// The address without what may hold secrets: user, query and fragment.
fn bare(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16();
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", uri.path())
}

fn port(uri: &http::Uri) -> u16 {
    let usual = if uri.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    uri.port_u16().unwrap_or(usual)
}

#[async_trait]
impl Transport for Observed {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let uri = request.uri();
        let span = tracing::info_span!(
            target: TRACED,
            "exchange",
            otel.name = request.method().as_str(),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = request.method().as_str(),
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            server.address = uri.host(),
            server.port = port(uri),
            url.full = Empty,
            error.type = Empty,
        );
        if !span.is_disabled() {
            span.record("url.full", bare(uri));
        }
        if let Some(trail) = request.extensions().get::<Trail>() {
            let before = trail.begin(&span);
            if before > 0 {
                span.record("http.request.resend_count", before);
            }
        }
        let mut labels = Vec::new();
        if is_measured() {
            labels = vec![
                ("http.request.method", request.method().to_string()),
                ("server.address", uri.host().unwrap_or_default().to_owned()),
                ("server.port", port(uri).to_string()),
            ];
        }
        let began = Instant::now();
        let answer = self.0.send(request).instrument(span.clone()).await;
        let failed = |word: &str| {
            span.record("error.type", word);
            span.record("otel.status_code", "ERROR");
        };
        let failure = match &answer {
            Err(_) => Some(NO_ANSWER.to_owned()),
            Ok(response) => {
                let status = response.status;
                span.record("http.response.status_code", status.as_u16());
                if is_measured() {
                    labels.push(("http.response.status_code", status.as_u16().to_string()));
                }
                let is_failure = status.is_client_error() || status.is_server_error();
                is_failure.then(|| status.as_u16().to_string())
            }
        };
        if let Some(word) = failure {
            failed(&word);
            labels.push(("error.type", word));
        }
        if is_measured() {
            record(&[Measure {
                metric: &EXCHANGE_DURATION,
                labels,
                amount: Amount::Durations {
                    count: 1,
                    seconds: began.elapsed().as_secs_f64(),
                },
            }]);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_user_query_and_fragment() {
        let uri = "https://canary:canary@a.example:8443/b/c?sig=canary#canary";
        let told = bare(&uri.parse().unwrap());
        assert_eq!(told, "https://a.example:8443/b/c");
    }
}
