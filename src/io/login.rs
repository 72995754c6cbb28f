//! Access tokens for a login and a password: OAuth's password and refresh grants.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::exchange::{ApiClient, ApiRequest, Limits, Reply, RequestOptions, Tokens, place};
use crate::{
    core::protocol::request::encode,
    error::{Error, Kind, Result},
};

/// A token is replaced this long before it expires, so that it does not expire under way.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// What `expires_in` is taken for when it is absent (documented: 3600).
const DEFAULT_LIFE: i64 = 3600;

/// The tokens of one login, shared by all who ask for it.
pub struct Login {
    name: String,
    url: String,
    user: String,
    password: SecretString,
    asker: ApiClient,
    held: Mutex<Option<LoginToken>>,
}

#[derive(Clone)]
struct LoginToken {
    access: Arc<str>,
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
    access_token: String,
    refresh_token: Option<SecretString>,
    expires_in: Option<i64>,
}

impl Login {
    /// Tokens from `url` for a login. `name` stands in error texts; `asker` asks without tokens.
    pub fn new(
        name: &str,
        url: String,
        login: &str,
        password: SecretString,
        asker: ApiClient,
    ) -> Self {
        let user = login.to_owned();
        Self {
            name: name.to_owned(),
            url,
            user,
            password,
            asker,
            held: Mutex::new(None),
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

    async fn logged_in(&self, limits: &Limits) -> Result<LoginToken> {
        let form = format!(
            "grant_type=password&username={}&password={}",
            encode(&self.user),
            encode(self.password.expose_secret())
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
        let asked = self.asker.clock().now();
        let response = match self.asker.ask(&question, limits).await {
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
            ) => return Err(self.refused(&what)),
        };
        let body = self.asker.whole_body(&question, response, limits).await?;
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
            access: granted.access_token.into(),
            refresh: granted.refresh_token,
            refreshed: false,
            // A short life is used for half of it at least.
            renew: asked + (life - SKEW).max(life / 2),
            expires: asked + life,
        })
    }

    fn refused(&self, what: &str) -> Error {
        Error::config(format!(
            "{}: {what}: check the login and the password, that the region is the tenant's, and \
             that the account is an API user with `Integrations` enabled",
            self.name
        ))
    }
}

#[async_trait]
impl Tokens for Login {
    /// The held token while it lasts, else a refreshed one, else one for the password.
    async fn bearer(&self, refused: Option<&str>, limits: &Limits) -> Result<Arc<str>> {
        let mut held = self.held.lock().await;
        let now = self.asker.clock().now();
        // It stays held until there is another: after an outage it may still do.
        let (old, is_refused) = match &*held {
            None => (None, false),
            Some(token) => (Some(token.clone()), refused == Some(&*token.access)),
        };
        if let Some(token) = &old
            && now < token.renew
            && !is_refused
        {
            return Ok(Arc::clone(&token.access));
        }
        let renewed = match &old {
            // What a refresh gave was refused: only the password is left.
            Some(token) if is_refused && token.refreshed => None,
            Some(LoginToken {
                refresh: Some(refresh),
                ..
            }) => self.refreshed(refresh, limits).await.transpose(),
            _ => None,
        };
        let renewed = match renewed {
            Some(renewed) => renewed,
            None => self.logged_in(limits).await,
        };
        match (renewed, old) {
            (Ok(token), _) => {
                let access = Arc::clone(&token.access);
                *held = Some(token);
                Ok(access)
            }
            (Err(error), Some(token))
                if error.kind() == Kind::Transient
                    && !is_refused
                    && self.asker.clock().now() < token.expires =>
            {
                Ok(token.access)
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
