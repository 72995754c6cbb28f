//! The tokens of one credential, one for each scope.
//!
//! `azure_identity` asks Entra and the Azure CLI. The managed identity of App Service is one request
//! of our own: `azure_identity` finds its endpoint in the process's environment alone, where neither
//! settings nor tests can put it. Tokens are held here and not there, so that a refused one can be
//! replaced, and so that time is our [`Clock`](crate::io::clock::Clock)'s.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;
use azure_identity::Executor;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::{
    Rejected, TokenSource, cli,
    credential::{Credential, GrantedToken, Proof, Registration, SKEW},
    entra, failure, managed, same,
};
use crate::{
    core::position::window::delta,
    error::{Error, Kind, Result},
    io::{
        clock::timeout,
        retry::{Limits, RetryBudget},
        wire::Wire,
    },
};

/// Who asks for more patience than this is asked again all the same.
const LONGEST_REST: TimeDelta = TimeDelta::hours(1);

/// How long a refused secret is not sent again: the streams of a run are told at once, and the next
/// run asks anew.
const REFUSAL_HOLDS: TimeDelta = TimeDelta::minutes(1);

/// How long a token that could not be replaced early is used on before somebody asks again.
const EARLY_AGAIN: TimeDelta = TimeDelta::minutes(5);

/// How often a token is asked for.
const ATTEMPTS: u32 = 3;

/// The tokens that a credential was granted.
pub struct TokenCache {
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

impl TokenCache {
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

    async fn get(
        &self,
        held: &mut ScopeToken,
        scope: &str,
        refused: Option<&SecretString>,
        limits: &Limits,
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
            let asked = self.ask_patiently(scope, limits).await;
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
    async fn ask_patiently(&self, scope: &str, limits: &Limits) -> Result<GrantedToken> {
        // Before the patience with Entra begins: the identity has patience and repeats of its own.
        if let Credential::Registration(Registration {
            proof: Proof::Federated(federation),
            ..
        }) = &self.credential
        {
            let held = federation.assertion(limits).await;
            held.map_err(|error| error.context(self.credential.described()))?;
        }
        let patience = self.credential.patience();
        let limit = patience.min(limits.left(&*self.wire.clock));
        let clock = &*self.wire.clock;
        let end = clock.now() + delta(limit);
        let mut budget = RetryBudget::new(&*self.wire.clock, &self.wire.random, end, ATTEMPTS);
        let asked = budget.retry("a token", || self.ask(scope, limits));
        let asked = timeout(clock, limit, asked).await;
        let granted = asked.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            let error = Error::transient(format!("no token within {seconds} s"));
            Err(budget.counted(match self.credential.attempt() {
                Some(attempt) => error.of(attempt),
                None => error,
            }))
        });
        granted.map_err(|error| error.context(self.credential.described()))
    }

    async fn ask(&self, scope: &str, limits: &Limits) -> Result<GrantedToken> {
        match &self.credential {
            Credential::Registration(registration) => {
                self.registered(registration, scope, limits).await
            }
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
                cli::granted(tenant.as_deref(), scope, self.executor.as_ref()).await
            }
        }
    }

    /// As an app registration; with a changed secret, when the known one is refused.
    async fn registered(
        &self,
        registration: &Registration,
        scope: &str,
        limits: &Limits,
    ) -> Result<GrantedToken> {
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
            Proof::Federated(federation) => {
                let assertion = federation.assertion(limits).await?;
                let sent = ask.with_assertion(assertion.clone(), asked);
                let sent = self.send_once(scope, &assertion.0, sent).await;
                return sent.map_err(|error| federation.explained(error, &assertion));
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

#[async_trait]
impl TokenSource for TokenCache {
    async fn token(
        &self,
        scope: &str,
        rejected: Option<Rejected<'_>>,
        limits: &Limits,
    ) -> Result<SecretString> {
        // Locked while asking: whoever comes meanwhile gets the same answer.
        let held = &mut *self.held.lock().await;
        let lacks = match rejected {
            None => return self.get(held, scope, None, limits).await,
            Some(Rejected::Refused(refused)) => {
                return self.get(held, scope, Some(refused), limits).await;
            }
            Some(Rejected::LacksRole(lacks)) => lacks,
        };
        let granted = held.granted.get(scope);
        let is_held = granted.is_some_and(|granted| same(&granted.token, lacks));
        let run = limits.deadline;
        // Once for all who ask in this run.
        if is_held && held.with_roles.insert(scope.to_owned(), run) == Some(run) {
            return Ok(lacks.clone());
        }
        let other = self.get(held, scope, Some(lacks), limits).await;
        Ok(other.unwrap_or_else(|_| lacks.clone()))
    }
}
