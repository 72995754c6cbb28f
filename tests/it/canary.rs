//! Secrets appear in nothing that is written, printed or returned.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::Router;
use sentinel_connector::{
    io::http::{Request, Response, Transport, TransportError},
    simulator::{Fault, Target},
};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

use crate::world::World;

/// Notes every secret that goes over the wire.
struct Tap {
    router: Router,
    secrets: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait]
impl Transport for Tap {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let is_login = request.uri().path().ends_with("/oauth/token");
        if let Some(bearer) = request.headers().get("authorization") {
            let bearer = bearer.to_str().unwrap().trim_start_matches("Bearer ");
            self.secrets.lock().unwrap().insert(bearer.to_owned());
        }
        let mut response = self.router.send(request).await?;
        if is_login && response.status.is_success() {
            let (status, headers) = (response.status, response.headers.clone());
            let body = response.whole_body().await?;
            let text = String::from_utf8_lossy(&body).into_owned();
            // Also what came before a cut.
            for name in ["access_token", "refresh_token"] {
                let value = text.split(&format!("\"{name}\":\"")).nth(1);
                let value = value.and_then(|rest| rest.split('"').next());
                self.secrets
                    .lock()
                    .unwrap()
                    .extend(value.map(str::to_owned));
            }
            let body = Box::pin(futures_util::stream::once(async { Ok(body) }));
            response = Response {
                status,
                headers,
                body,
            };
        }
        Ok(response)
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// All bytes of all files below a folder.
fn bytes_of(folder: &std::path::Path, all: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes_of(&path, all);
        } else {
            all.extend(std::fs::read(&path).unwrap());
        }
        all.extend(path.to_string_lossy().bytes());
    }
}

fn holds(text: &[u8], secret: &str) -> bool {
    memchr::memmem::find(text, secret.as_bytes()).is_some()
}

/// Runs a world under a fault, and looks for its secrets in all that it left. Returns how many
/// secrets there were, and how much log.
async fn leaves_no_secret(fault: &str, password: Option<&str>) -> (usize, usize) {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .with_writer(log.clone())
            .with_ansi(false),
    );
    let guard = tracing::subscriber::set_default(subscriber);
    let mut world = World::with(|options| {
        options.scale = 0.03;
        options.client_secret = "canary-of-the-client-secret".to_owned();
        options.token_lifetime = 62;
    });
    let secrets = Arc::new(Mutex::new(BTreeSet::from([
        world.simulator.options().password.clone(),
        world.simulator.options().client_secret.clone(),
    ])));
    if let Some(password) = password {
        world.password = password.to_owned().into();
        secrets.lock().unwrap().insert(password.to_owned());
    }
    world.transport = Arc::new(Tap {
        router: world.simulator.router(),
        secrets: Arc::clone(&secrets),
    });
    let mut written = Vec::new();
    for round in 0..3 {
        if round == 1 && !fault.is_empty() {
            world.inject(fault);
        }
        // Not closed until the files are read, so that the write-ahead log is still there.
        let parts = world.parts();
        for report in world.run_with(&parts).await {
            written.extend(serde_json::to_vec(&report).unwrap());
            written.extend(format!("{report:?}").bytes());
        }
        bytes_of(world.folder.path(), &mut written);
        world.pass(60);
    }
    drop(guard);
    let log = log.0.lock().unwrap();
    written.extend(log.iter());
    let secrets = secrets.lock().unwrap();
    for secret in &*secrets {
        let encoded = sentinel_connector::core::protocol::request::encode(secret);
        assert!(!holds(&written, secret), "{fault}: `{secret}` was written");
        assert!(
            !holds(&written, &encoded),
            "{fault}: `{secret}` was written, encoded"
        );
    }
    (secrets.len(), log.len())
}

#[tokio::test]
async fn no_secret_is_written_printed_or_returned() {
    let mut faults: Vec<String> = Fault::catalogue()
        .into_iter()
        .filter(|entry| entry.target == Target::EsetToken)
        .map(|entry| format!("{}:{}x*", entry.target.name(), entry.kind))
        .collect();
    for fault in [
        "401",
        "403",
        "rubbish",
        "expired-delta",
        "never",
        "202-forever",
    ] {
        faults.push(format!("eset.detections:{fault}x*"));
    }
    faults.push(String::new());
    let (mut most, mut logged) = (0, 0);
    for fault in faults {
        let (secrets, log) = leaves_no_secret(&fault, None).await;
        most = most.max(secrets);
        logged += log;
    }
    assert!(most > 6, "the tap has seen only {most} secrets");
    assert!(logged > 10_000, "only {logged} bytes of log were captured");
}

#[tokio::test]
async fn a_wrong_password_is_not_repeated_to_anybody() {
    let wrong = "canary & wrong+password";
    let (secrets, _) = leaves_no_secret("", Some(wrong)).await;
    assert_eq!(secrets, 3, "nothing is granted for a wrong password");
}
