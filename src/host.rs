//! The custom-handler protocol of Azure Functions.
//!
//! The host starts the program, asks `GET /` until somebody answers, and then posts each
//! invocation to `/<function>`. It reads three things from an answer: the status (anything but 2xx
//! fails the invocation), `Logs` and `ReturnValue`. An empty body, or `null`, would leave the
//! invocation hanging until `functionTimeout`, when the host kills the process with everything else
//! in it; so every answer has a body, and a run outlives neither a panic nor its caller's patience
//! without one.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    core::{
        metrics::{Amount, INVOCATION_DURATION, Measure, TRACED},
        position::window::delta,
    },
    error::{Error, Kind, Result},
    io::clock::{Elapsed, SharedClock, timeout},
    telemetry,
};

pub mod envelope;
pub mod local;

use envelope::Envelope;

/// Longer than any message of a queue (64 KB) or record of a timer.
const MAX_BODY: usize = 4 << 20;

/// What an invocation has left to save its work once the platform wants us gone, in five seconds.
const GRACE: Duration = Duration::from_secs(4);

/// What remains of the five seconds to send the answers.
const FLUSH: Duration = Duration::from_millis(500);

/// What remains for what is sent last, with a little to end in.
const REST: Duration = Duration::from_millis(300);

/// Application Insights cuts messages at 32 KB; a report should be shorter anyway.
const MAX_LOG: usize = 8 << 10;

/// The functions of the app, behind the protocol.
#[async_trait]
pub trait Functions: Send + Sync {
    /// Their names, as the folders spell them.
    fn names(&self) -> Vec<String>;

    /// Runs one of them.
    async fn run(&self, invocation: Invocation) -> std::result::Result<Answer, Failure>;
}

/// What a run gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Values of output bindings, by name.
    pub outputs: Map<String, Value>,
    /// What was done, for the log.
    pub report: Value,
}

impl From<Value> for Answer {
    /// A report, and no outputs.
    fn from(report: Value) -> Self {
        Self {
            report,
            ..Self::default()
        }
    }
}

impl Answer {
    /// The answer of a function with an HTTP trigger, whose output binding is `res`: JSON.
    pub fn http(body: &Value) -> Self {
        Self::http_status(StatusCode::OK, body)
    }

    /// An HTTP answer of this status.
    pub fn http_status(status: StatusCode, body: &Value) -> Self {
        Self::http_text(status, "application/json", &body.to_string())
    }

    /// An HTTP answer of this type. A body with a space, a quote or a `#` is never valid base64, which
    /// the host would decode behind our back.
    pub fn http_text(status: StatusCode, content_type: &str, body: &str) -> Self {
        Self::of(status, &json!({ "Content-Type": content_type }), body)
    }

    /// A page for people, which holds what others have named: nothing of it is run, kept or shown in
    /// a frame, and where its links lead nobody learns its address, which may hold the key.
    pub fn page(html: &str, policy: &str) -> Self {
        let headers = json!({
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        });
        // A tag is no base64 either.
        Self::of(StatusCode::OK, &headers, html)
    }

    fn of(status: StatusCode, headers: &Value, body: &str) -> Self {
        let res = json!({ "statusCode": status.as_u16(), "headers": headers, "body": body });
        Self {
            outputs: Map::from_iter([("res".to_owned(), res)]),
            report: Value::Null,
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The host's id of it, which its log uses too.
    pub id: String,
    /// The function's name.
    pub function: String,
    /// The values of the bindings, decoded.
    pub data: Value,
    /// What the trigger says about itself, decoded.
    pub metadata: Value,
    /// Cancelled when the program has to go: save, and return.
    pub stop: CancellationToken,
}

/// A run that the host shall count as failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Who must act.
    pub kind: Kind,
    /// What happened, in one sentence, without any secret.
    pub reason: String,
    /// What was done nevertheless.
    pub report: Value,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            reason: error.to_string(),
            report: Value::Null,
        }
    }
}

/// Opens `port` to this machine alone: the host always dials 127.0.0.1.
pub async fn bind(port: u16) -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| Error::config(format!("port {port} can't be opened: {error}")))
}

/// Serves until the platform, or Ctrl-C, ends the process. Comes back with what is left then of the time
/// that the platform gives.
pub async fn serve_until_terminated(
    listener: TcpListener,
    functions: Arc<dyn Functions>,
    clock: SharedClock,
) -> Result<Duration> {
    let stop = CancellationToken::new();
    let signals = terminated()?;
    let on_signal = stop.clone();
    let told = Arc::clone(&clock);
    let waiting = tokio::spawn(async move {
        let signal = signals.await;
        tracing::info!(signal, "stopping");
        on_signal.cancel();
        told.now()
    });
    serve(listener, functions, Arc::clone(&clock), stop).await?;
    let stopped = waiting.await.unwrap_or_else(|_| clock.now());
    let until = stopped + delta(GRACE + FLUSH + REST);
    Ok((until - clock.now()).to_std().unwrap_or_default())
}

/// Comes back with the name of the signal that wants us gone. Listens from now on, not from when
/// it is first polled.
#[cfg(unix)]
pub(crate) fn terminated() -> Result<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let listen = |kind| {
        signal(kind).map_err(|error| Error::config(format!("signals can't be handled: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Comes back when Ctrl-C was pressed.
#[cfg(not(unix))]
#[allow(
    clippy::unnecessary_wraps,
    reason = "it can fail where there are signals"
)]
pub(crate) fn terminated() -> Result<impl Future<Output = &'static str> + Send> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    })
}

/// Serves until `stop` is cancelled. Then new calls get 503, running ones have four seconds to
/// save, and it returns within five whatever they do.
pub async fn serve(
    listener: TcpListener,
    functions: Arc<dyn Functions>,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<()> {
    let host = Host {
        functions,
        clock: Arc::clone(&clock),
        stop: stop.clone(),
        running: TaskTracker::new(),
    };
    let running = host.running.clone();
    let router = Router::new().fallback(answer).with_state(host);
    let close = CancellationToken::new();
    let closing = close.clone().cancelled_owned();
    let server = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(closing)
            .into_future(),
    );
    // The port stays open until the runs are over: who asks gets an answer.
    stop.cancelled().await;
    running.close();
    if timeout(&*clock, GRACE, running.wait()).await == Err(Elapsed) {
        tracing::error!(
            left = running.len(),
            "runs did not stop in time; the next ones go on from their cursors"
        );
    }
    close.cancel();
    let abort = server.abort_handle();
    match timeout(&*clock, FLUSH, server).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(Error::transient(format!("the server failed: {error}"))),
        Ok(Err(error)) => Err(Error::contract(format!("the server failed: {error}"))),
        Err(Elapsed) => {
            abort.abort();
            Ok(())
        }
    }
}

#[derive(Clone)]
struct Host {
    functions: Arc<dyn Functions>,
    clock: SharedClock,
    stop: CancellationToken,
    running: TaskTracker,
}

/// One match: the host's ping, an invocation, or a mistake.
async fn answer(State(host): State<Host>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let function = head.uri.path().trim_start_matches('/');
    match head.method {
        Method::GET | Method::HEAD if function.is_empty() => "ok".into_response(),
        Method::POST => match invocation(&host, function, &head.headers, body).await {
            Ok(invocation) => host.invoke(invocation, &head.headers).await,
            Err(refusal) => refusal,
        },
        _ => {
            let allowed = if function.is_empty() { "GET" } else { "POST" };
            let mut response = refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("use {allowed} here"),
            );
            response
                .headers_mut()
                .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
            response
        }
    }
}

async fn invocation(
    host: &Host,
    function: &str,
    headers: &HeaderMap,
    body: Body,
) -> std::result::Result<Invocation, Response> {
    let names = host.functions.names();
    if !names.iter().any(|name| name == function) {
        let error = format!(
            "there is no function `{function}`; there are {}",
            names.join(", ")
        );
        return Err(refuse(StatusCode::NOT_FOUND, error));
    }
    let id = invocation_id(headers);
    let refuse_body = || {
        let error = format!("the body is longer than {MAX_BODY} bytes, or broke off");
        refuse(StatusCode::BAD_REQUEST, error)
    };
    // `to_bytes` would wait for the bytes of a length that is too much already.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(refuse_body());
    }
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| refuse_body())?;
    let envelope = Envelope::parse(&body).map_err(|why| {
        tracing::error!(invocation_id = id, function, "refused an invocation: {why}");
        refuse(StatusCode::BAD_REQUEST, why)
    })?;
    // Last, so that nothing starts after the stop was seen.
    if host.stop.is_cancelled() {
        return Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the program is stopping",
        ));
    }
    Ok(Invocation {
        id,
        function: function.to_owned(),
        data: envelope.data,
        metadata: envelope.metadata,
        stop: host.stop.clone(),
    })
}

/// The host's id, or one of our own for a call by hand.
fn invocation_id(headers: &HeaderMap) -> String {
    headers
        .get("x-azure-functions-invocationid")
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= 64)
        .map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned)
}

impl Host {
    /// Runs on a task of its own: a caller that hangs up drops this future, and must not cut a run
    /// in two.
    async fn invoke(&self, invocation: Invocation, headers: &HeaderMap) -> Response {
        let traced = traced(&invocation, headers);
        let span = traced.in_scope(|| {
            tracing::info_span!(
                "invocation",
                invocation_id = %invocation.id,
                function = %invocation.function,
            )
        });
        let host = self.clone();
        let run = host.run(invocation).instrument(span).instrument(traced);
        let run = self.running.spawn(run);
        match run.await {
            Ok((status, body)) => (status, Json(body)).into_response(),
            Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the run was given up"),
        }
    }

    /// A run, its log lines, and the answer to the host.
    async fn run(self, invocation: Invocation) -> (StatusCode, Value) {
        let function = invocation.function.clone();
        let started = self.clock.now();
        // A panic ends this run alone; what it shares with others is guarded where it is shared.
        let outcome = AssertUnwindSafe(self.functions.run(invocation))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                Err(Failure {
                    kind: Kind::Contract,
                    reason: "the run panicked".to_owned(),
                    report: Value::Null,
                })
            });
        let elapsed = (self.clock.now() - started).num_milliseconds();
        measure(&function, elapsed, outcome.as_ref().err());
        match outcome {
            Ok(Answer { outputs, report }) => {
                tracing::info!(elapsed_ms = elapsed, %report, "done");
                let log = cut(format!("{function} done in {elapsed} ms: {report}"));
                let body = json!({"Outputs": outputs, "Logs": [log], "ReturnValue": report});
                (StatusCode::OK, body)
            }
            // The host throws away the body of a failure, so the log is where it is told.
            Err(Failure {
                kind,
                reason,
                report,
            }) => {
                tracing::error!(elapsed_ms = elapsed, %kind, %report, "{reason}");
                let body = json!({"error": reason, "kind": kind, "report": report});
                (StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }
}

/// What triggers a function, as the conventions for functions have it
/// (`opentelemetry.io/docs/specs/semconv/faas`).
fn trigger(data: &Value) -> &'static str {
    match data.as_object() {
        Some(data) if data.contains_key("req") => "http",
        Some(data) if data.contains_key("timer") => "timer",
        _ => "pubsub",
    }
}

/// The span of an invocation: a part of the trace that the host hands over, if it does.
fn traced(invocation: &Invocation, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TRACED,
        "invocation",
        otel.name = invocation.function,
        otel.kind = "server",
        otel.status_code = Empty,
        error.type = Empty,
        faas.invocation_id = invocation.id,
        faas.name = invocation.function,
        faas.trigger = trigger(&invocation.data),
    );
    if !span.is_disabled() {
        let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // One that the host did not give begins a trace of its own.
        drop(span.set_parent(context));
    }
    span
}

/// How long an invocation took, and whether it failed.
fn measure(function: &str, milliseconds: i64, failure: Option<&Failure>) {
    let mut labels = vec![("faas.invoked_name", function.to_owned())];
    if let Some(failure) = failure {
        labels.push(("error.type", failure.kind.to_string()));
    }
    let took = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
    telemetry::record(&[Measure {
        metric: &INVOCATION_DURATION,
        labels,
        amount: Amount::Durations {
            count: 1,
            seconds: took.as_secs_f64(),
        },
    }]);
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_LOG {
        let end = (0..=MAX_LOG).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(json!({"error": error.into()}))).into_response()
}
