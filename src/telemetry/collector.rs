//! Who collects, as the exporter asks it: over our own transport, on the runtime of the runs, with one
//! warning for an outage however long it lasts.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::io::{
    clock::{SharedClock, timeout},
    http::{Request, SharedTransport, TransportError},
};

/// The way to the collector. The exporter asks from threads of its own, which drive no IO.
pub(super) struct Collector {
    transport: SharedTransport,
    clock: SharedClock,
    patience: Duration,
    runtime: Handle,
    /// It did not take the last export, and that has been said.
    is_away: Arc<AtomicBool>,
}

impl Collector {
    /// A collector that is asked on this runtime.
    pub(super) fn new(transport: SharedTransport, clock: SharedClock, patience: Duration) -> Self {
        Self {
            transport,
            clock,
            patience,
            runtime: Handle::current(),
            is_away: Arc::default(),
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request) -> Result<http::Response<Bytes>, HttpError> {
        let (transport, clock) = (Arc::clone(&self.transport), Arc::clone(&self.clock));
        let (patience, is_away) = (self.patience, Arc::clone(&self.is_away));
        let exchange = self.runtime.spawn(async move {
            let whole = async {
                let response = transport.send(request).await?;
                let (status, headers) = (response.status, response.headers.clone());
                Ok((status, headers, response.whole_body().await?))
            };
            let whole = timeout(&*clock, patience, whole).await.unwrap_or_else(|_| {
                let seconds = patience.as_secs();
                Err(TransportError::new(format!("no answer within {seconds} s")))
            });
            let why = match &whole {
                Err(error) => Some(error.to_string()),
                Ok((status, ..)) if !status.is_success() => Some(format!("it answers {status}")),
                Ok(_) => None,
            };
            tell(&is_away, why);
            whole
        });
        let (status, headers, body) = exchange.await??;
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Says once that nothing is taken, and once that it is again.
fn tell(is_away: &AtomicBool, why: Option<String>) {
    let was_away = is_away.swap(why.is_some(), Ordering::Relaxed);
    match why {
        Some(why) if !was_away => tracing::warn!(
            "traces and metrics are not taken, and are lost as long as that lasts, which is not said \
             again: {why}; correct `OTEL_EXPORTER_OTLP_ENDPOINT`, or see to the collector"
        ),
        None if was_away => tracing::info!("traces and metrics are taken again"),
        _ => {}
    }
}
