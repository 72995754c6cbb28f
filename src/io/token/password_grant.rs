//! Access tokens for a login and a password: OAuth's password and refresh grants.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Rejected, TokenSource, same};
use crate::{
    core::protocol::request::encode,
    error::{Error, Kind, Result},
    io::{
        exchange::{Answered, ApiClient, ApiRequest, Reply, RequestOptions, place},
        password::Password,
        retry::Limits,
    },
};

/// A token is replaced this long before it expires, so that it does not expire under way.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// The life of a token whose `expires_in` is absent (documented: 3600).
const DEFAULT_LIFE: i64 = 3600;

/// The tokens of one login whose password may change, shared by all who ask for them.
pub struct PasswordGrant {
    name: String,
    url: String,
    user: String,
    password: Password,
    client: ApiClient,
    held: Mutex<HeldLogin>,
}

#[derive(Default)]
struct HeldLogin {
    /// The password as it was read last; none when it has not been needed yet.
    password: Option<SecretString>,
    token: Option<LoginToken>,
    /// The run, by its end, in which the password was refused, and how.
    refused: Option<(DateTime<Utc>, Error)>,
}

#[derive(Clone)]
struct LoginToken {
    access: SecretString,
    refresh: Option<SecretString>,
    /// It came by a refresh, not for the password.
    refreshed: bool,
    /// It is replaced from then on.
    renew: DateTime<Utc>,
    expires: DateTime<Utc>,
}

/// A token endpoint's answer; everything but the token itself may be absent.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    expires_in: Option<i64>,
}

impl PasswordGrant {
    /// Tokens from `url` for a login. `name` stands in error texts; `client` asks without tokens.
    /// `password` is read when it is needed, and again when it is refused.
    pub fn new(
        name: &str,
        url: String,
        login: &str,
        password: Password,
        client: ApiClient,
    ) -> Self {
        Self {
            name: name.to_owned(),
            url,
            user: login.to_owned(),
            password,
            client,
            held: Mutex::default(),
        }
    }

    /// The held token while it lasts, else a refreshed one, else one for the password.
    async fn get(
        &self,
        held: &mut HeldLogin,
        password: &SecretString,
        refused: Option<&SecretString>,
        limits: &Limits,
    ) -> Result<SecretString> {
        let now = self.client.clock().now();
        // It stays held until there is another: after an outage it may still do.
        let old = held.token.clone();
        let is_refused = |token: &LoginToken| {
            let mut refused = refused.iter();
            refused.any(|refused| same(refused, &token.access))
        };
        let is_refused = old.as_ref().is_some_and(is_refused);
        if let Some(token) = &old
            && now < token.renew
            && !is_refused
        {
            return Ok(token.access.clone());
        }
        let renewed = match &old {
            // A refreshed one was refused: only the password is left.
            Some(token) if is_refused && token.refreshed => None,
            Some(LoginToken {
                refresh: Some(refresh),
                ..
            }) => self.refreshed(refresh, limits).await.transpose(),
            _ => None,
        };
        let renewed = match renewed {
            Some(renewed) => renewed,
            None => self.logged_in(password, limits).await,
        };
        match (renewed, old) {
            (Ok(token), _) => {
                let access = token.access.clone();
                held.token = Some(token);
                Ok(access)
            }
            (Err(error), Some(token))
                if error.kind() == Kind::Transient
                    && !is_refused
                    && self.client.clock().now() < token.expires =>
            {
                Ok(token.access)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// A token for a refresh token; `None` when the service refuses that.
    async fn refreshed(
        &self,
        refresh: &SecretString,
        limits: &Limits,
    ) -> Result<Option<LoginToken>> {
        let form = format!(
            "grant_type=refresh_token&refresh_token={}",
            encode(refresh.expose_secret())
        );
        match self.grant(form, limits).await {
            Ok(held) => Ok(Some(LoginToken {
                // Not every service rotates it.
                refresh: held.refresh.or_else(|| Some(refresh.clone())),
                refreshed: true,
                ..held
            })),
            Err(error) if error.kind() == Kind::Config => {
                tracing::debug!(login = self.name, "refresh token refused");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn logged_in(&self, password: &SecretString, limits: &Limits) -> Result<LoginToken> {
        let form = format!(
            "grant_type=password&username={}&password={}",
            encode(&self.user),
            encode(password.expose_secret())
        );
        self.grant(form, limits).await
    }

    async fn grant(&self, form: String, limits: &Limits) -> Result<LoginToken> {
        let question = ApiRequest {
            name: self.name.clone(),
            method: Method::POST,
            url: self.url.clone(),
            body: Some(("application/x-www-form-urlencoded", form.into())),
            has_position: false,
            manner: RequestOptions::default(),
        };
        let asked = self.client.clock().now();
        let response = match self.client.ask(&question, limits).await {
            Ok(Reply::Answer(response)) => response,
            Err(error) => return Err(error),
            Ok(
                Reply::PositionRefused(what)
                | Reply::TooLarge(what)
                | Reply::UsedUp(what)
                | Reply::Forbidden(what)
                | Reply::NotOffered(what)
                | Reply::NotThere(what)
                | Reply::Unexpected(what, _),
            ) => return Err(self.refused(what)),
        };
        let body = self.client.whole_body(&question, response, limits).await?;
        // The parser's own text could quote the body, which holds tokens.
        let granted: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
            Error::contract(format!(
                "{}: the answer holds no access token",
                place(&question)
            ))
        })?;
        let life = granted.expires_in.unwrap_or(DEFAULT_LIFE);
        let life = TimeDelta::seconds(life.clamp(0, 30 * 24 * 3600));
        Ok(LoginToken {
            access: granted.access_token,
            refresh: granted.refresh_token,
            refreshed: false,
            // A short life is used for half of it at least.
            renew: asked + (life - SKEW).max(life / 2),
            expires: asked + life,
        })
    }

    fn refused(&self, what: Answered) -> Error {
        let error = Error::config(format!(
            "{}: {what}: check the login and the password, that the region is the tenant's, and \
             that the account is an API user with `Integrations` enabled",
            self.name
        ));
        what.explains(error)
    }
}

#[async_trait]
impl TokenSource for PasswordGrant {
    async fn token(
        &self,
        _scope: &str,
        rejected: Option<Rejected<'_>>,
        limits: &Limits,
    ) -> Result<SecretString> {
        let refused = match rejected {
            // A user's roles are not in the token.
            Some(Rejected::LacksRole(lacks)) => return Ok(lacks.clone()),
            Some(Rejected::Refused(refused)) => Some(refused),
            None => None,
        };
        let held = &mut *self.held.lock().await;
        let run = limits.deadline;
        let known = match &held.password {
            Some(known) => known.clone(),
            None => self.password.current().await?,
        };
        let asked = match &held.refused {
            // Whoever sends it again and again is locked out.
            Some((of, why)) if *of == run => Err(why.clone()),
            _ => self.get(held, &known, refused, limits).await,
        };
        held.password = Some(known.clone());
        let why = match asked {
            Err(error) if error.kind() == Kind::Config => error,
            end => return end,
        };
        let Some(changed) = self.password.other_than(&known).await? else {
            held.refused = Some((run, why.clone()));
            return Err(why);
        };
        tracing::info!(login = self.name, "the password has changed");
        *held = HeldLogin::default();
        let asked = self.get(held, &changed, None, limits).await;
        held.password = Some(changed);
        if let Err(why) = &asked
            && why.kind() == Kind::Config
        {
            held.refused = Some((run, why.clone()));
        }
        asked
    }
}

#[cfg(test)]
#[path = "password_grant_tests.rs"]
mod tests;
