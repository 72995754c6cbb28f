//! Azure Key Vault.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
    time::OffsetDateTime,
};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions, models};
use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{Secret, SecretStore};
use crate::{
    core::position::window::delta,
    error::{Attempt, Error, Kind, Result},
    io::{
        azure_transport::{AskedFor, client_options},
        clock::timeout,
        retry::{Limits, RetryBudget},
        token::{
            Rejected, SharedTokens,
            failure::{FailureSigns, clear, kinds, seen},
        },
        wire::Wire,
    },
};

/// How long a secret is taken for unchanged.
const FRESH: TimeDelta = TimeDelta::hours(1);

/// How long a vault that is away is left alone, by whoever knows the secret.
const PAUSE: TimeDelta = TimeDelta::minutes(10);

/// How long one may take, its token and repeats included.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is asked for.
const ATTEMPTS: u32 = 3;

/// A vault.
pub struct KeyVault {
    url: String,
    tokens: SharedTokens,
    wire: Wire,
    read: Mutex<HashMap<String, (DateTime<Utc>, Secret)>>,
}

/// What came of one question.
enum SecretAnswer {
    Found(Secret),
    Absent,
    /// The token was refused.
    Refused(String, SecretString),
}

impl KeyVault {
    /// The vault at `url`, such as `https://contoso.vault.azure.net`. Asks nobody yet.
    pub fn new(url: &str, tokens: SharedTokens, wire: Wire) -> Self {
        Self {
            url: url.to_owned(),
            tokens,
            wire,
            read: Mutex::default(),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>> {
        let clock = &*self.wire.clock;
        let limits = Limits::until(clock.now() + delta(PATIENCE));
        let mut budget = RetryBudget::new(
            &*self.wire.clock,
            &self.wire.random,
            limits.deadline,
            ATTEMPTS,
        );
        let attempts = budget.retry("the vault", || self.ask_with_tokens(name, &limits));
        let read = timeout(clock, PATIENCE, attempts).await;
        let read = read.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            let error = Error::transient(format!("no answer within {seconds} s"));
            Err(budget.counted(error.of(attempt(name, None))))
        });
        read.map_err(|error| error.context(format!("secret `{name}` of {}", self.described())))
    }

    async fn ask_with_tokens(&self, name: &str, limits: &Limits) -> Result<Option<Secret>> {
        for _ in 0..2 {
            match self.ask(name, limits).await? {
                SecretAnswer::Found(secret) => return Ok(Some(secret)),
                SecretAnswer::Absent => return Ok(None),
                SecretAnswer::Refused(scope, token) => {
                    let rejected = Some(Rejected::Refused(&token));
                    self.tokens.token(&scope, rejected, limits).await?;
                }
            }
        }
        Err(Error::config(
            "the vault refuses even a new access token: is it in the same tenant as the identity?",
        ))
    }

    /// One question: the vault challenges, and is asked again with a token for what it names. The
    /// client is made anew each time, since it goes by a clock of its own.
    async fn ask(&self, name: &str, limits: &Limits) -> Result<SecretAnswer> {
        let bearer = Arc::new(Bearer {
            tokens: Arc::clone(&self.tokens),
            limits: limits.clone(),
            given: Mutex::default(),
        });
        let credential: Arc<dyn TokenCredential> = Arc::<Bearer>::clone(&bearer);
        let asked_for = AskedFor::default();
        let options = SecretClientOptions {
            client_options: client_options(&self.wire.transport, None, &asked_for),
            ..SecretClientOptions::default()
        };
        let client = SecretClient::new(&self.url, credential, Some(options));
        let client =
            client.map_err(|_| Error::config("`KEY_VAULT_URL` is not the URL of a vault"))?;
        let asked = async { client.get_secret(name, None).await?.into_model() };
        match asked.await {
            Ok(secret) => Ok(SecretAnswer::Found(converted(secret)?)),
            Err(error) => {
                let given = bearer.given.lock().await.take();
                let wait = asked_for.wait(self.wire.clock.now());
                let status = seen(&error).status;
                failed(&error, given).map_err(|error| {
                    let wait = error.after().or(wait);
                    error.asking_for(wait).of(attempt(name, status))
                })
            }
        }
    }
}

#[async_trait]
impl SecretStore for KeyVault {
    async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let now = self.wire.clock.now();
        let known = self.read.lock().await.get(name).cloned();
        match known {
            Some((at, secret)) if now - at < FRESH => Ok(Some(secret)),
            // A vault that is away for a while must not stop what works without it.
            Some((_, secret)) => match self.refresh(name).await {
                Err(error) if error.kind() == Kind::Transient => {
                    let again = self.wire.clock.now() - (FRESH - PAUSE);
                    let known = (again, secret.clone());
                    self.read.lock().await.insert(name.to_owned(), known);
                    Ok(Some(secret))
                }
                end => end,
            },
            None => self.refresh(name).await,
        }
    }

    async fn known(&self, name: &str) -> Option<Secret> {
        let (_, known) = self.read.lock().await.get(name).cloned()?;
        self.secret(name).await.unwrap_or(Some(known))
    }

    async fn refresh(&self, name: &str) -> Result<Option<Secret>> {
        let found = self.read(name).await?;
        let mut read = self.read.lock().await;
        match &found {
            Some(secret) => read.insert(name.to_owned(), (self.wire.clock.now(), secret.clone())),
            None => read.remove(name),
        };
        Ok(found)
    }

    fn described(&self) -> String {
        format!("key vault `{}`", self.url.trim_start_matches("https://"))
    }
}

/// The question for a secret, by the status of its answer.
fn attempt(name: &str, status: Option<u16>) -> Attempt {
    Attempt {
        status: status.and_then(|status| StatusCode::from_u16(status).ok()),
        ..Attempt::new(Method::GET, format!("/secrets/{name}"))
    }
}

fn failed(
    error: &azure_core::Error,
    given: Option<(String, SecretString)>,
) -> Result<SecretAnswer> {
    tracing::debug!(kinds = kinds(error), "no secret from the vault");
    if let Some(own) = own(error) {
        return Err(own.clone());
    }
    if let Some(clear) = clear(error) {
        return Err(Error::from(clear.clone()).context("the vault can't be reached"));
    }
    let FailureSigns {
        status, unanswered, ..
    } = seen(error);
    match (status, given) {
        (Some(401), Some((scope, token))) => Ok(SecretAnswer::Refused(scope, token)),
        (Some(403), _) => Err(Error::config(
            "the identity may not read it: give it the role `Key Vault Secrets User` on the \
                 vault (a new role may take 30 minutes), and let the vault's firewall admit the app",
        )),
        (Some(404), _) => Ok(SecretAnswer::Absent),
        (Some(status @ (408 | 429 | 500..)), _) => {
            Err(Error::transient(format!("the vault answered {status}")))
        }
        (Some(status), _) => Err(Error::config(format!(
            "the vault answered {status}: check `KEY_VAULT_URL` and the secret's name"
        ))),
        (None, _) if unanswered => Err(Error::transient(
            "the vault can't be reached; check `KEY_VAULT_URL` if this stays so",
        )),
        (None, _) if matches!(error.kind(), ErrorKind::Other) => Err(Error::config(
            "it asks for a token of another service, and got none: check `KEY_VAULT_URL`",
        )),
        (None, _) => Err(Error::transient("the answer is not one of a vault's")),
    }
}

fn converted(secret: models::Secret) -> Result<Secret> {
    let value = secret
        .value
        .ok_or_else(|| Error::contract("the vault's answer holds no value"))?;
    let expires = secret.attributes.and_then(|attributes| attributes.expires);
    Ok(Secret {
        value: value.into(),
        expires: expires.and_then(|time| DateTime::from_timestamp(time.unix_timestamp(), 0)),
    })
}

/// Our own error among the causes: there was no token, and it says why.
fn own(error: &azure_core::Error) -> Option<&Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own);
        }
        cause = error.source();
    }
    None
}

/// Our tokens, as the client wants them.
struct Bearer {
    tokens: SharedTokens,
    limits: Limits,
    given: Mutex<Option<(String, SecretString)>>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

#[async_trait]
impl TokenCredential for Bearer {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let scope = scopes.first().copied().unwrap_or_default();
        let token = self.tokens.token(scope, None, &self.limits).await;
        let token = token.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        *self.given.lock().await = Some((scope.to_owned(), token.clone()));
        // The client is gone before that.
        let expires = OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1);
        Ok(AccessToken::new(token.expose_secret().to_owned(), expires))
    }
}
