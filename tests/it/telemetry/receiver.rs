//! A collector: takes what is sent, and decodes it as OpenTelemetry's own crate does.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use tokio::sync::Semaphore;

/// One request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    /// One permit for each request that has come.
    came: Arc<Semaphore>,
    /// One permit for each answer that may go.
    doors: Arc<Semaphore>,
}

impl Receiver {
    /// One that answers at once.
    pub(super) async fn start() -> Self {
        Self::behind(Semaphore::MAX_PERMITS).await
    }

    /// One that never answers.
    pub(super) async fn silent() -> Self {
        Self::behind(0).await
    }

    async fn behind(doors: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            requests: Arc::default(),
            came: Arc::new(Semaphore::new(0)),
            doors: Arc::new(Semaphore::new(doors)),
        };
        let router = Router::new()
            .route("/v1/{signal}", post(take))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// Comes back when a request has come.
    pub(super) async fn has_come(&self) {
        self.came.acquire().await.unwrap().forget();
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn of(&self, path: &str) -> Vec<Bytes> {
        let requests = self.requests().into_iter();
        let of_path = requests.filter(|request| request.path == path);
        of_path.map(|request| request.body).collect()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let bodies = self.of("/v1/traces").into_iter();
        let exports = bodies.map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        exports
            .flat_map(|export| export.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    /// The metrics as they were sent last, and of what.
    pub(super) fn metrics(&self) -> (Resource, Vec<Metric>) {
        let last = self.of("/v1/metrics").pop().unwrap();
        let export = ExportMetricsServiceRequest::decode(last).unwrap();
        let [resource] = &export.resource_metrics[..] else {
            panic!("{export:?}");
        };
        let scopes = resource.scope_metrics.iter();
        let metrics = scopes.flat_map(|scope| scope.metrics.clone()).collect();
        (resource.resource.clone().unwrap(), metrics)
    }
}

async fn take(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> &'static str {
    receiver.requests.lock().unwrap().push(Request {
        path: uri.path().to_owned(),
        headers,
        body,
    });
    receiver.came.add_permits(1);
    receiver.doors.acquire().await.unwrap().forget();
    ""
}

/// An attribute as text.
pub(super) fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let one = attributes.iter().find(|one| one.key == name)?;
    Some(match one.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    })
}

/// The sum of the points of a counter or a gauge that have these attributes.
pub(super) fn sum(metrics: &[Metric], name: &str, with: &[(&str, &str)]) -> Option<i64> {
    let metric = metrics.iter().find(|metric| metric.name == name)?;
    let points = match metric.data.as_ref()? {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{other:?}"),
    };
    let is_of = |attributes: &[KeyValue]| {
        let mut with = with.iter();
        with.all(|(name, value)| attribute(attributes, name).as_deref() == Some(value))
    };
    let points = points.iter().filter(|point| is_of(&point.attributes));
    Some(
        points
            .map(|point| match point.value.unwrap() {
                number_data_point::Value::AsInt(number) => number,
                number_data_point::Value::AsDouble(number) => panic!("{number}"),
            })
            .sum(),
    )
}

/// How many durations a histogram holds.
pub(super) fn durations(metrics: &[Metric], name: &str) -> u64 {
    let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Histogram(histogram)) = &metric.data else {
        panic!("{metric:?}");
    };
    histogram.data_points.iter().map(|point| point.count).sum()
}
