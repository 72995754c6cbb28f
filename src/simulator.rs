//! The outside world as one axum router over one seeded model: ESET Connect, Microsoft
//! Defender, Entra, the managed identities of App Service, Key Vault and the Logs Ingestion API, as the contracts describe them, with their bugs, and with scripted faults.
//!
//! ```text
//! request → Incoming      answer.rs     read whole
//!         → Place         place.rs      which call of which service
//!         → early faults  script.rs     wait, refuse, answer "pending"
//!         → Answer        eset/ defender/ entra.rs identity.rs key_vault.rs ingestion.rs, over world/
//!         → late faults   effect.rs     change what was answered, or cut it
//!         → response
//! ```
//!
//! Every token carries its own state, so a simulator that is started again with the same options
//! goes on where the last one stopped.

mod answer;
mod bulk;
mod defender;
mod dice;
mod effect;
mod entra;
mod eset;
mod fault;
mod identity;
mod ingestion;
mod key_vault;
mod kind;
mod listing;
mod options;
mod pending;
mod place;
mod script;
mod seal;
mod sync;
mod target;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, Response, StatusCode},
};
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use self::{
    answer::{Answer, Content, Incoming},
    bulk::{Bulk, Made},
    defender::Bends,
    dice::Dice,
    ingestion::ReceivedByStream,
    kind::Kind,
    pending::{Fate, Pending, Resumed},
    place::Place,
    script::Script,
    sync::lock,
    world::ids,
};
use crate::io::clock::SharedClock;

pub use self::{
    fault::{Entry, Fault},
    ingestion::{MAX_CALL, MAX_FIELD, Received},
    options::{
        BulkOf, DefenderOptions, FederatedCredential, IncidentUuids, Options, PageEnd, ROLES,
        STREAM, STREAM_INCIDENTS, SizeLimit, V2Carries, VaultSecret,
    },
    target::Target,
    world::{Finest, Product, World},
};

/// One call that the simulator has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it was answered.
    pub at: DateTime<Utc>,
    /// What it was for; none for a path that nobody serves.
    pub target: Option<Target>,
    /// The method.
    pub method: String,
    /// Path and query, with page and delta tokens replaced by `…`.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// How many records a list held; none when the answer was cut.
    pub records: usize,
}

/// The outside world. Clones share everything.
#[derive(Clone)]
pub struct Simulator(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) clock: SharedClock,
    pub(crate) world: Arc<World>,
    pub(crate) bulk: Option<Bulk>,
    pub(crate) received: Mutex<ReceivedByStream>,
    pub(crate) logins: eset::Logins,
    pub(crate) vault: Mutex<BTreeMap<String, VaultSecret>>,
    pub(crate) tokens: AtomicU64,
    /// Tokens before this one are dead.
    pub(crate) oldest_token: AtomicU64,
    quotas: defender::Quotas,
    limiter: eset::Limiter,
    script: Script,
    pending: Pending,
    calls: Mutex<Vec<Call>>,
    kept_waiting: watch::Sender<u64>,
    serial: AtomicU64,
}

impl Simulator {
    /// The world that `options` describe, at the time of `clock`.
    pub fn new(options: Options, clock: SharedClock) -> Self {
        let world = World::with_estate(
            options.seed,
            options.start,
            options.scale,
            &options.defender.estate,
            options.finest_time,
        );
        Self(Arc::new(Inner {
            bulk: options
                .bulk
                .map(|(of, rows)| Bulk::new(&world, options.start, of, rows)),
            world: Arc::new(world),
            received: Mutex::default(),
            logins: eset::Logins::default(),
            vault: Mutex::new(options.secrets.clone()),
            tokens: AtomicU64::new(0),
            oldest_token: AtomicU64::new(0),
            quotas: defender::Quotas::default(),
            limiter: eset::Limiter::default(),
            script: Script::default(),
            pending: Pending::default(),
            calls: Mutex::default(),
            kept_waiting: watch::Sender::default(),
            serial: AtomicU64::new(0),
            options,
            clock,
        }))
    }

    /// All services in one router.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// What is true.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Plays `fault` from now on.
    pub fn inject(&self, fault: Fault) {
        self.0.script.inject(fault);
    }

    /// The faults that have not struck once so far.
    pub fn unplayed(&self) -> Vec<Fault> {
        self.0.script.unplayed()
    }

    /// Comes back when `calls` calls in all have been met by a fault that never answers.
    pub async fn kept_waiting(&self, calls: u64) {
        let mut kept = self.0.kept_waiting.subscribe();
        // The sender lives as long as the simulator.
        drop(kept.wait_for(|kept| *kept >= calls).await);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.0.script.clear();
    }

    /// Puts a secret into the vault, or takes it out.
    pub fn keep_secret(&self, name: &str, secret: Option<VaultSecret>) {
        let mut vault = lock(&self.0.vault);
        match secret {
            Some(secret) => vault.insert(name.to_owned(), secret),
            None => vault.remove(name),
        };
    }

    /// An access token for `resource`, good for an hour, as a login of the Azure CLI gets it.
    pub fn token_for(&self, resource: &str) -> String {
        let expiry = self.0.clock.now().timestamp() + 3600;
        let client_id = &self.0.options.client_id;
        let app = entra::App::Main;
        self.0.bearer(app, client_id, resource, expiry, true)
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0.calls).clone()
    }

    /// What the Logs Ingestion API has taken, by stream.
    pub fn received(&self) -> BTreeMap<String, Received> {
        lock(&self.0.received).clone()
    }

    /// How many different records of [`Options::bulk`] have arrived as rows.
    pub fn arrived(&self) -> u64 {
        self.0.bulk.as_ref().map_or(0, Bulk::arrived)
    }

    /// The settings that point a connector here; `base_url` has no slash at its end.
    pub fn settings(&self, base_url: &str) -> Vec<(String, String)> {
        let options = &self.0.options;
        let template = format!("{base_url}/eset/{{region}}/{{domain}}");
        // Its host has to lie below the one that the vault's challenge names.
        let vault = base_url.replacen("://", "://vault.", 1);
        let identities = format!("{base_url}{}", identity::PATH);
        [
            ("ESET_URL_TEMPLATE", template.as_str()),
            ("ESET_REGION", &options.region),
            ("ESET_LOGIN", &options.login),
            ("ESET_PASSWORD", &options.password),
            ("ESET_PRODUCTS", "protect,inspect,cloud-office"),
            ("DEFENDER_API_URL", &format!("{base_url}/defender")),
            ("GRAPH_URL", &format!("{base_url}/graph")),
            ("DEFENDER_TENANT_ID", &options.tenant_id),
            ("DEFENDER_CLIENT_ID", &options.defender.client_id),
            ("DEFENDER_CLIENT_SECRET", &options.defender.client_secret),
            ("AZURE_AUTHORITY_HOST", base_url),
            ("AZURE_TENANT_ID", &options.tenant_id),
            ("AZURE_CLIENT_ID", &options.client_id),
            ("AZURE_CLIENT_SECRET", &options.client_secret),
            ("IDENTITY_ENDPOINT", &identities),
            ("IDENTITY_HEADER", &options.identity_header),
            ("KEY_VAULT_URL", &vault),
            ("LOGS_INGESTION_ENDPOINT", base_url),
            ("LOGS_INGESTION_SCOPE", "https://monitor.azure.com/.default"),
            ("DCR_IMMUTABLE_ID", &options.dcr),
            ("DCR_STREAM", STREAM),
            ("DCR_STREAM_INCIDENTS", STREAM_INCIDENTS),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

async fn handle(State(simulator): State<Simulator>, request: Request<Body>) -> Response<Body> {
    let inner = &simulator.0;
    let incoming = match Incoming::read(request).await {
        Ok(incoming) => incoming,
        Err(answer) => return answer.into_response(&inner.clock),
    };
    let place = Place::of(&incoming);
    let one_way = inner.options.latency / 2;
    inner.wait(one_way).await;
    let answer = match &place {
        Some(place) => inner.play(place, &incoming).await,
        None => Answer::not_found(),
    };
    inner.wait(one_way).await;
    let date = inner.clock.now().format("%a, %d %b %Y %H:%M:%S GMT");
    let answer = answer.with_header("date", date.to_string());
    let answer = answer.with_header("request-id", inner.fresh_id(ids::Kind::Request));
    lock(&inner.calls).push(Call {
        at: inner.clock.now(),
        target: place.as_ref().map(Place::target),
        method: incoming.method.to_string(),
        path: incoming.shown(),
        status: answer.status.as_u16(),
        records: effect::records(&answer),
    });
    answer.into_response(&inner.clock)
}

impl Inner {
    /// What answers in place of the company, if anything does.
    pub(crate) fn made(&self) -> Option<&Made> {
        self.bulk.as_ref().map(Bulk::made)
    }

    async fn wait(&self, duration: Duration) {
        if !duration.is_zero() {
            self.clock.sleep(duration).await;
        }
    }

    fn fresh_id(&self, kind: ids::Kind) -> String {
        self.world
            .ids
            .uuid(kind, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    async fn play(&self, place: &Place, incoming: &Incoming) -> Answer {
        let target = place.target();
        if target.is_eset_data()
            && !self
                .limiter
                .admits(self.options.calls_per_second, self.clock.now())
        {
            return Answer::status(StatusCode::TOO_MANY_REQUESTS);
        }
        // Checked when the call comes in: an answer may take longer than a token lives.
        if target.is_eset_data() && !self.eset_allows(incoming) {
            return Answer::status(StatusCode::UNAUTHORIZED);
        }
        if let Place::Defender(call) = place
            && let Err(refused) = self.defender_admits(call, incoming)
        {
            return refused;
        }
        let mut bends = Bends::default();
        match incoming.header("response-id") {
            Some(id) => match self
                .pending
                .resume(id, &request_key(incoming), self.clock.now())
            {
                Resumed::Answer => {}
                Resumed::Pending => {
                    return Answer::status(StatusCode::ACCEPTED).with_header("response-id", id);
                }
                Resumed::Gone => return Answer::not_found(),
            },
            None => {
                for kind in self.script.take(target, |kind| kind.meets(incoming)) {
                    if let Some(answer) = self.play_early(kind, place, incoming, &mut bends).await {
                        return answer;
                    }
                }
            }
        }
        let mut answer = self.answer(place, incoming, &bends);
        let kinds = self
            .script
            .take(target, |kind| effect::meets(kind, incoming, &answer));
        let ends = |kind: &Kind| matches!(kind, Kind::EndEmpty | Kind::EndNull | Kind::EndAbsent);
        if let (false, Content::Json(value)) = (kinds.iter().any(ends), &mut answer.content) {
            effect::end_page(value, self.options.page_end);
        }
        let serial = self.serial.load(Ordering::Relaxed);
        let mut dice = Dice::new(self.options.seed, &[0xeff, serial]);
        for kind in kinds {
            effect::play(kind, target, incoming, &mut answer, &self.world, &mut dice);
        }
        answer
    }

    async fn play_early(
        &self,
        kind: Kind,
        place: &Place,
        incoming: &Incoming,
        bends: &mut Bends,
    ) -> Option<Answer> {
        let accepted = || Answer::status(StatusCode::ACCEPTED);
        let pending = |fate| {
            let id = self.fresh_id(ids::Kind::Response);
            self.pending
                .add(id.clone(), request_key(incoming), fate, self.clock.now());
            accepted().with_header("response-id", id)
        };
        Some(match kind {
            Kind::Status {
                status,
                retry_after,
            } => effect::refusal(place.target(), status, retry_after),
            Kind::Pending => pending(Fate::Ready),
            Kind::PendingDead => pending(Fate::Dead),
            Kind::PendingForever => pending(Fate::Never),
            Kind::PendingNoId => accepted(),
            Kind::FairUse if self.serial.load(Ordering::Relaxed).is_multiple_of(2) => accepted(),
            Kind::FairUse => Answer::status(StatusCode::SERVICE_UNAVAILABLE),
            Kind::ExpiredDelta | Kind::ExpiredPage => Answer::bad_request(),
            Kind::NoDelta => Answer::not_found(),
            Kind::Rubbish => Answer::rubbish(),
            Kind::WrongType => effect::refusal(place.target(), 400, None),
            Kind::EmptyOk => Answer::status(StatusCode::OK),
            Kind::Never => {
                self.kept_waiting.send_modify(|calls| *calls += 1);
                self.clock.sleep(Duration::from_hours(1)).await;
                return None;
            }
            Kind::Slow(seconds) => {
                self.clock.sleep(Duration::from_secs(seconds)).await;
                return None;
            }
            Kind::PageSize(size) => {
                bends.page_size = size;
                return None;
            }
            kind if kind.bends() => {
                bends.kinds.push(kind);
                return None;
            }
            kind => match place {
                Place::Defender(call) => return self.defender_fault(kind, call, incoming),
                _ => return None,
            },
        })
    }

    /// What the service itself answers.
    fn answer(&self, place: &Place, incoming: &Incoming, bends: &Bends) -> Answer {
        match place {
            Place::EsetToken => self.eset_token(incoming),
            Place::Entra { tenant, version } => {
                let has_roles = !bends.kinds.contains(&Kind::NoRoles);
                self.entra_token(tenant, *version, incoming, has_roles)
            }
            Place::OpenId { tenant, version } => self.openid(tenant, *version, incoming),
            Place::Identity => self.identity_token(incoming),
            Place::Secret { name } => self.vault_secret(name, incoming),
            Place::Ingestion { dcr, stream } => self.ingest(dcr, stream, incoming),
            Place::Eset(call) => self.eset(call, incoming, bends.page_size),
            Place::Defender(call) => self.defender(call, incoming, bends),
        }
    }
}

/// Two requests with the same key are the same request.
fn request_key(incoming: &Incoming) -> String {
    format!(
        "{} {} {:?} {:?}",
        incoming.method, incoming.path, incoming.query, incoming.body
    )
}
