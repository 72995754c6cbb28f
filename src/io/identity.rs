//! Who we are to Azure, and the access tokens that prove it.
//!
//! `azure_identity` asks Entra and the Azure CLI. The managed identity of App Service is one request
//! of our own: `azure_identity` finds its endpoint in the process's environment alone, where neither
//! settings nor tests can put it. Tokens are held here and not there, so that a refused one can be
//! replaced, and so that time is our [`Clock`](super::clock::Clock)'s.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use azure_identity::Executor;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{
    clock::timeout,
    password::Password,
    token::{AccessTokens, RenewableTokens},
    wire::Wire,
};
use crate::{
    core::{position::window::delta, protocol::retry::backoff},
    error::{Error, Kind, Result},
};

mod certificate;
mod entra;
mod failure;
mod managed;

pub use certificate::Certificate;
pub(crate) use failure::{FailureSigns, blocked, kinds, seen};

/// A token is replaced this long before it expires: as long as the Azure SDKs do it.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// How long a token may take, repeats included: a dead endpoint must not eat the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Azure CLI starts a Python first, and a laptop has no run that it could eat.
const PATIENCE_WITH_CLI: Duration = Duration::from_secs(30);

/// Who asks for more patience than this is asked again all the same.
const LONGEST_REST: TimeDelta = TimeDelta::hours(1);

/// How long a refused secret is not sent again: the streams of a run are told at once, and the next
/// run asks anew.
const REFUSAL_HOLDS: TimeDelta = TimeDelta::minutes(1);

/// How long a token that could not be replaced early is used on before somebody asks again.
const EARLY_AGAIN: TimeDelta = TimeDelta::minutes(5);

/// How often a token is asked for.
const ATTEMPTS: u32 = 3;

/// How a token is got.
#[derive(Debug, Clone)]
pub enum Credential {
    /// As an app registration.
    Registration(Registration),
    /// As a managed identity of this app.
    Managed {
        /// The client id of a user-assigned identity; none for the system's.
        client_id: Option<String>,
        /// Where the platform gives out its tokens.
        platform: Platform,
    },
    /// As whoever is logged in to the Azure CLI.
    AzureCli {
        /// The tenant, when it is not the login's own.
        tenant: Option<String>,
    },
}

/// An app registration of an Entra tenant.
#[derive(Debug, Clone)]
pub struct Registration {
    /// `https://login.microsoftonline.com`, or another cloud's. It must be `https`.
    pub authority: String,
    /// The tenant's id or domain.
    pub tenant_id: String,
    /// The registration's application (client) id.
    pub client_id: String,
    /// What proves it.
    pub proof: Proof,
}

/// What proves that we are an app registration.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A client secret.
    Secret(Password),
    /// A certificate with its key.
    Certificate(Certificate),
}

/// Where App Service gives out the tokens of managed identities
/// (`learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference`).
#[derive(Debug, Clone)]
pub struct Platform {
    /// `IDENTITY_ENDPOINT`.
    pub endpoint: String,
    /// `IDENTITY_HEADER`: shows that we run inside the app.
    pub header: SecretString,
}

impl Credential {
    /// The first that there is: app registration, user-assigned identity, system identity, Azure
    /// CLI login. Without a platform there is no managed identity.
    pub fn choose(
        registration: Option<Registration>,
        user_assigned: Option<&str>,
        platform: Option<&Platform>,
    ) -> Self {
        match (registration, platform) {
            (Some(registration), _) => Self::Registration(registration),
            (None, Some(platform)) => Self::Managed {
                client_id: user_assigned.map(str::to_owned),
                platform: platform.clone(),
            },
            (None, None) => Self::AzureCli { tenant: None },
        }
    }

    /// What it is, for people.
    pub fn described(&self) -> String {
        match self {
            Self::Registration(Registration {
                client_id, proof, ..
            }) => match proof {
                Proof::Secret(_) => format!("app registration `{client_id}` with its secret"),
                Proof::Certificate(_) => {
                    format!("app registration `{client_id}` with its certificate")
                }
            },
            Self::Managed {
                client_id: Some(client_id),
                ..
            } => format!("user-assigned identity `{client_id}`"),
            Self::Managed { .. } => "system-assigned identity".to_owned(),
            Self::AzureCli { .. } => "Azure CLI login".to_owned(),
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::AzureCli { .. } => PATIENCE_WITH_CLI,
            Self::Registration(_) | Self::Managed { .. } => PATIENCE,
        }
    }
}

/// A token with its end.
struct GrantedToken {
    token: SecretString,
    /// It is replaced from then on.
    renew: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl GrantedToken {
    /// A token that is replaced shortly before its end.
    fn until(token: SecretString, until: DateTime<Utc>) -> Self {
        Self {
            token,
            renew: until - SKEW,
            until,
        }
    }
}

/// The tokens of one credential, one for each scope.
pub struct Identity {
    credential: Credential,
    wire: Wire,
    /// Runs `az`; none for a process of its own.
    executor: Option<Arc<dyn Executor>>,
    held: Mutex<ScopeToken>,
    refusals: std::sync::Mutex<Vec<Refusal>>,
}

/// A proof that Entra refuses.
struct Refusal {
    /// The scope that it was sent for; none when it is refused for each.
    scope: Option<String>,
    proof: SecretString,
    until: DateTime<Utc>,
    why: Error,
}

/// What was granted, by scope, and how long whoever grants wants to be left alone.
#[derive(Default)]
struct ScopeToken {
    granted: HashMap<String, GrantedToken>,
    rest: Option<Backoff>,
    /// The run in which a token for new roles was asked for, by scope.
    with_roles: HashMap<String, DateTime<Utc>>,
}

struct Backoff {
    until: DateTime<Utc>,
    why: Error,
}

impl ScopeToken {
    /// The error that it would be to ask at `now`.
    fn resting(&self, now: DateTime<Utc>) -> Option<Error> {
        let rest = self.rest.as_ref().filter(|rest| now < rest.until)?;
        let left = (rest.until - now).to_std().ok();
        Some(rest.why.clone().asking_for(left))
    }

    /// Nobody asks again before the wait is over that this error asks for.
    fn rest_after(&mut self, why: &Error, now: DateTime<Utc>) {
        let wait = why.after().and_then(|wait| TimeDelta::from_std(wait).ok());
        let until = wait.and_then(|wait| now.checked_add_signed(wait.min(LONGEST_REST)));
        let rest = |until| Backoff {
            until,
            why: why.clone(),
        };
        self.rest = until.map(rest);
    }
}

impl Identity {
    /// Tokens for `credential`. Asks nobody yet.
    pub fn new(credential: Credential, wire: Wire) -> Arc<Self> {
        Self::with_executor(credential, wire, None)
    }

    /// Tokens for `credential`, with `executor` running the Azure CLI.
    pub fn with_executor(
        credential: Credential,
        wire: Wire,
        executor: Option<Arc<dyn Executor>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            credential,
            wire,
            executor,
            held: Mutex::default(),
            refusals: std::sync::Mutex::default(),
        })
    }

    /// How the tokens are got.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn get(&self, scope: &str, refused: Option<&SecretString>) -> Result<SecretString> {
        // ScopeToken while asking: whoever comes meanwhile gets the same answer.
        self.get_held(&mut *self.held.lock().await, scope, refused)
            .await
    }

    async fn get_held(
        &self,
        held: &mut ScopeToken,
        scope: &str,
        refused: Option<&SecretString>,
    ) -> Result<SecretString> {
        let old = held
            .granted
            .get(scope)
            .filter(|old| refused.is_none_or(|refused| !same(refused, &old.token)));
        let now = self.wire.clock.now();
        if let Some(old) = old.filter(|old| now < old.renew) {
            return Ok(old.token.clone());
        }
        let old = old.map(|old| (old.token.clone(), old.until));
        let asked = if let Some(error) = held.resting(now) {
            Err(error)
        } else {
            let asked = self.ask_patiently(scope).await;
            if let Err(error) = &asked {
                held.rest_after(error, self.wire.clock.now());
            }
            asked
        };
        match asked {
            Ok(granted) => {
                let token = granted.token.clone();
                held.granted.insert(scope.to_owned(), granted);
                Ok(token)
            }
            // What is left of the old one may be enough until Entra is back.
            Err(error) => {
                let now = self.wire.clock.now();
                let Some((old, until)) = old.filter(|(_, until)| now < *until) else {
                    return Err(error);
                };
                let is_early = now < until - SKEW;
                if !is_early && error.kind() != Kind::Transient {
                    return Err(error);
                }
                if is_early && let Some(granted) = held.granted.get_mut(scope) {
                    granted.renew = (now + EARLY_AGAIN).min(until - SKEW);
                }
                Ok(old)
            }
        }
    }

    /// The error that it would be to send a proof again.
    fn refusal(&self, scope: &str, proof: &SecretString) -> Option<Error> {
        let now = self.wire.clock.now();
        let refusals = self.refusals.lock();
        let refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        let mut refusals = refusals.iter();
        let found = refusals.find(|refusal| {
            now < refusal.until
                && refusal.scope.as_deref().is_none_or(|of| of == scope)
                && same(&refusal.proof, proof)
        });
        found.map(|refusal| refusal.why.clone())
    }

    /// Sends a proof, unless it was refused just now.
    async fn send_once(
        &self,
        scope: &str,
        proof: &SecretString,
        sent: impl Future<Output = Result<GrantedToken>> + Send,
    ) -> Result<GrantedToken> {
        if let Some(why) = self.refusal(scope, proof) {
            return Err(why);
        }
        let sent = sent.await;
        if let Err(why) = &sent
            && why.kind() == Kind::Config
        {
            let now = self.wire.clock.now();
            let refusals = self.refusals.lock();
            let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
            refusals.retain(|refusal| now < refusal.until);
            refusals.push(Refusal {
                scope: (!failure::is_of_app(why)).then(|| scope.to_owned()),
                proof: proof.clone(),
                until: now + REFUSAL_HOLDS,
                why: why.clone(),
            });
        }
        sent
    }

    /// Asks a few times, unless somebody has to act first.
    async fn ask_patiently(&self, scope: &str) -> Result<GrantedToken> {
        let limit = self.credential.patience();
        let end = self.wire.clock.now() + delta(limit);
        let attempts = async {
            let mut attempt = 1;
            loop {
                match self.ask(scope).await {
                    Err(error) if error.kind() == Kind::Transient && attempt < ATTEMPTS => {
                        let wait = error.after().unwrap_or_else(|| backoff(attempt, 0.5));
                        if self.wire.clock.now() + delta(wait) >= end {
                            return Err(error);
                        }
                        tracing::debug!(%error, attempt, ?wait, "asking for a token again");
                        self.wire.clock.sleep(wait).await;
                        attempt += 1;
                    }
                    end => return end,
                }
            }
        };
        let asked = timeout(&*self.wire.clock, limit, attempts).await;
        let granted = asked.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(Error::transient(format!("no token within {seconds} s")))
        });
        granted.map_err(|error| error.context(self.credential.described()))
    }

    async fn ask(&self, scope: &str) -> Result<GrantedToken> {
        match &self.credential {
            Credential::Registration(registration) => self.registered(registration, scope).await,
            Credential::Managed {
                client_id,
                platform,
            } => {
                let ask = managed::ManagedRequest {
                    platform,
                    client_id: client_id.as_deref(),
                    scope,
                };
                ask.send(&*self.wire.transport, self.wire.clock.now()).await
            }
            Credential::AzureCli { tenant } => {
                entra::of_cli(tenant.as_deref(), scope, self.executor.as_ref()).await
            }
        }
    }

    /// As an app registration; with a changed secret, when the known one is refused.
    async fn registered(&self, registration: &Registration, scope: &str) -> Result<GrantedToken> {
        let asked = self.wire.clock.now();
        let ask = entra::EntraRequest {
            registration,
            scope,
            wire: &self.wire,
        };
        let password = match &registration.proof {
            Proof::Certificate(certificate) => {
                let proof = certificate.thumbprint().into();
                let sent = ask.with_certificate(certificate, asked);
                return self.send_once(scope, &proof, sent).await;
            }
            Proof::Secret(password) => password,
        };
        let secret = password.current().await?;
        let sent = ask.with_secret(&secret, asked);
        match self.send_once(scope, &secret, sent).await {
            Err(error) if error.kind() == Kind::Config => {
                let Some(changed) = password.other_than(&secret).await? else {
                    return Err(error);
                };
                tracing::info!("the client secret has changed");
                let sent = ask.with_secret(&changed, asked);
                self.send_once(scope, &changed, sent).await
            }
            end => end,
        }
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

#[async_trait]
impl AccessTokens for Identity {
    async fn token(&self, scope: &str) -> Result<SecretString> {
        self.get(scope, None).await
    }
}

#[async_trait]
impl RenewableTokens for Identity {
    async fn renewed(&self, scope: &str, refused: &SecretString) -> Result<SecretString> {
        self.get(scope, Some(refused)).await
    }

    async fn with_roles(
        &self,
        scope: &str,
        lacks: &SecretString,
        run: DateTime<Utc>,
    ) -> Option<SecretString> {
        let mut held = self.held.lock().await;
        let is_held = held
            .granted
            .get(scope)
            .is_some_and(|granted| same(&granted.token, lacks));
        // Once for all who ask in this run.
        if is_held && held.with_roles.insert(scope.to_owned(), run) == Some(run) {
            return None;
        }
        let other = self.get_held(&mut held, scope, Some(lacks)).await.ok()?;
        (!same(&other, lacks)).then_some(other)
    }
}
