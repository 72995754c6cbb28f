//! The functions, as the Functions host calls them.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{
        App, Function, RunOptions, failed,
        live::{InForce, Live},
        plan::{LaneMessage, MOST_TRIES, ReadMessage},
    },
    assets::{self, Lookup},
    config::{Environment, Mode, Problems, Settings},
    core::metrics::{PROMETHEUS, prometheus},
    error::{Error, Result},
    host::{Answer, Failure, Functions, Invocation},
    io::clock::SharedClock,
    status::{Overview, PAGE_POLICY, html, metrics::measures},
};

mod format;
mod together;

use format::StatusFormat;
use together::Together;

/// The functions by the settings of an environment. Wrong settings are the answer to each call. The
/// parts are built at the first call, and again as long as that fails.
pub struct Served {
    live: Arc<Live>,
    clock: SharedClock,
    overview: Together<Arc<Overview>>,
    numbers: Together<Answer>,
}

impl Served {
    /// Functions by the settings of `environment`, as they were read from it.
    pub fn new(
        environment: Environment,
        settings: std::result::Result<Settings, Problems>,
        clock: SharedClock,
    ) -> Self {
        let live = Live::new(environment, Mode::Host, settings, Arc::clone(&clock));
        Self::over(Arc::new(live), clock)
    }

    /// Functions of an app that others work with, too.
    pub fn over(live: Arc<Live>, clock: SharedClock) -> Self {
        Self {
            live,
            clock,
            overview: Together::default(),
            numbers: Together::default(),
        }
    }

    async fn app(&self) -> Result<Arc<App>> {
        self.live.in_force().await.app
    }

    /// Where everything stands, in the form that whoever asks wants.
    async fn status(&self, request: &Value) -> Answer {
        let format = request["Query"]["format"].as_str();
        match StatusFormat::asked(format, accept(request)) {
            Ok(StatusFormat::Json) => Answer::http(&self.overview().await.json()),
            Ok(StatusFormat::Page) => Answer::page(&html(&*self.overview().await), &PAGE_POLICY),
            Ok(StatusFormat::Prometheus) => self.numbers.ask(async || self.numbers().await).await,
            Err(why) => Answer::http_status(StatusCode::BAD_REQUEST, &json!({ "error": why })),
        }
    }

    async fn overview(&self) -> Arc<Overview> {
        let overview = self.overview.ask(async || {
            let now = self.clock.now();
            let InForce {
                app, environment, ..
            } = self.live.in_force().await;
            let app = app.as_deref().map_err(Clone::clone);
            Arc::new(Overview::look(app, &environment, self.live.mode(), now).await)
        });
        overview.await
    }

    /// The numbers in Prometheus' text form.
    async fn numbers(&self) -> Answer {
        let measures = match self.app().await {
            Ok(app) => measures(&app).await,
            Err(error) => Err(error),
        };
        match measures {
            Ok(measures) => Answer::http_text(StatusCode::OK, PROMETHEUS, &prometheus(&measures)),
            // A scrape without numbers has to fail: an empty one would read as nothing wrong.
            Err(error) => {
                let body = json!({ "error": error.to_string(), "kind": error.kind() });
                Answer::http_status(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        }
    }

    /// What `?find=…` stands for.
    async fn assets(&self, invocation: &Invocation) -> Answer {
        let sought = invocation.data["req"]["Query"]["find"].as_str();
        let found = match self.app().await {
            Ok(app) => assets::find(&app, sought.unwrap_or_default(), &invocation.stop).await,
            Err(error) => Err(error),
        };
        let (status, body) = match found {
            Ok(Lookup::Found(answer)) => (StatusCode::OK, json!(answer)),
            Ok(Lookup::Unknown(why)) => (StatusCode::NOT_FOUND, json!({ "error": why })),
            Ok(Lookup::Unclear(why)) => (StatusCode::BAD_REQUEST, json!({ "error": why })),
            Err(error) => {
                tracing::error!(kind = %error.kind(), "{error}");
                let body = json!({ "error": error.to_string(), "kind": error.kind() });
                (StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        };
        Answer::http_status(status, &body)
    }

    /// The streams of a timer function.
    async fn timer(
        &self,
        function: Function,
        invocation: &Invocation,
    ) -> std::result::Result<Answer, Failure> {
        let InForce { app, stale, .. } = self.live.in_force().await;
        let app = app?;
        if matches!(function, Function::Pull(_)) && app.scales_out() {
            return plan(&app, function, stale.as_ref()).await;
        }
        let options = RunOptions {
            stop: invocation.stop.clone(),
            ..RunOptions::default()
        };
        let reports = app.run(function, &options).await;
        let mut report = json!({ "function": invocation.function, "streams": reports });
        tell_stale(&mut report, stale.as_ref());
        match failed(&reports) {
            None => Ok(report.into()),
            Some(error) => Err(Failure {
                report,
                ..error.into()
            }),
        }
    }

    /// The lane of a message. A run that failed is tried again by the host, but the last time: the next
    /// plan does what a poison message could not. One that can't be read, or that ends its worker each
    /// time, becomes one.
    async fn pull_worker(&self, invocation: &Invocation) -> std::result::Result<Answer, Failure> {
        let app = self.live.in_force().await.app?;
        let message = match LaneMessage::read(&invocation.data["lane"])? {
            ReadMessage::Lane(message) => message,
            ReadMessage::OtherVersion(version) => {
                let left = format!(
                    "the message is of version {version}, which this program does not read: the lane \
                     is planned again"
                );
                tracing::warn!("{left}");
                return Ok(json!({ "function": invocation.function, "left": [left] }).into());
            }
        };
        let options = RunOptions {
            stop: invocation.stop.clone(),
            ..RunOptions::default()
        };
        let pulled = app.pull(&message, &options).await;
        for left in &pulled.left {
            tracing::warn!(lane = message.lane(), "{left}");
        }
        let mut report = json!(pulled);
        report["function"] = json!(invocation.function);
        let tries = invocation.metadata["DequeueCount"].as_u64();
        match failed(&pulled.reports) {
            Some(error) if tries.is_none_or(|tries| tries < MOST_TRIES) => Err(Failure {
                report,
                ..error.into()
            }),
            error => {
                if let Some(error) = error {
                    tracing::error!(kind = %error.kind(), "not tried again before the next plan: {error}");
                }
                app.settle(&message).await;
                Ok(report.into())
            }
        }
    }
}

/// The header `Accept`: the host writes each header as a list of its values, under the name that the
/// caller gave it.
fn accept(request: &Value) -> Option<&str> {
    let headers = request["Headers"].as_object()?;
    let (_, value) = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("accept"))?;
    value.as_str().or_else(|| value[0].as_str())
}

/// Says in a report why the list of connections is the one of before.
fn tell_stale(report: &mut Value, stale: Option<&Error>) {
    if let Some(stale) = stale {
        report["connections"] = format!("as they were read before: {stale}").into();
    }
}

/// Puts the lanes of a timer function on the queue.
async fn plan(
    app: &App,
    function: Function,
    stale: Option<&Error>,
) -> std::result::Result<Answer, Failure> {
    let plan = app.plan(function).await?;
    let mut report = json!(plan);
    report["function"] = json!(function.folder());
    tell_stale(&mut report, stale);
    match plan.error.or_else(|| failed(&plan.refused)) {
        None => Ok(report.into()),
        Some(error) => Err(Failure {
            report,
            ..error.into()
        }),
    }
}

#[async_trait]
impl Functions for Served {
    fn names(&self) -> Vec<String> {
        Function::all()
            .map(|function| function.folder().to_owned())
            .collect()
    }

    async fn run(&self, invocation: Invocation) -> std::result::Result<Answer, Failure> {
        match Function::in_folder(&invocation.function) {
            Some(Function::Status) => Ok(self.status(&invocation.data["req"]).await),
            Some(Function::Assets) => Ok(self.assets(&invocation).await),
            Some(Function::PullWorker) => self.pull_worker(&invocation).await,
            Some(timer @ (Function::Pull(_) | Function::Push)) => {
                self.timer(timer, &invocation).await
            }
            None => Err(
                Error::contract(format!("there is no function `{}`", invocation.function)).into(),
            ),
        }
    }
}
