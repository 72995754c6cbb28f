//! Password and refresh grants. A refresh rotates: the old refresh token dies.

use std::{collections::HashMap, sync::Mutex};

use axum::http::StatusCode;
use serde_json::json;

use crate::simulator::{
    Inner,
    answer::{Answer, Incoming, field},
    dice::hash,
    seal::{Use, open, seal},
    sync::lock,
};

/// The oldest generation of refresh tokens that is still good, by login.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<HashMap<u64, u64>>);

impl Inner {
    /// `POST /oauth/token`.
    pub(crate) fn eset_token(&self, incoming: &Incoming) -> Answer {
        let Some(form) = incoming.form() else {
            return Answer::status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        };
        let refuse = |error| Answer::json(StatusCode::BAD_REQUEST, json!({"error": error}));
        match field(&form, "grant_type") {
            "password" => {
                if !self.options.is_login(field(&form, "username"))
                    || field(&form, "password") != self.options.password
                {
                    return refuse("invalid_grant");
                }
                let now = self.clock.now().timestamp_micros().cast_unsigned();
                let serial = self.serial.load(std::sync::atomic::Ordering::Relaxed);
                self.grant(hash(self.options.seed, &[0x106, now, serial]), 0)
            }
            "refresh_token" => {
                let token = field(&form, "refresh_token");
                let Some([login, generation]) = open(self.options.seed, Use::Refresh, token) else {
                    return refuse("invalid_grant");
                };
                let mut logins = lock(&self.logins.0);
                let oldest = logins.entry(login).or_insert(0);
                if generation < *oldest {
                    return refuse("invalid_grant");
                }
                *oldest = generation + 1;
                self.grant(login, generation + 1)
            }
            _ => refuse("unsupported_grant_type"),
        }
    }

    fn grant(&self, login: u64, generation: u64) -> Answer {
        let seed = self.options.seed;
        let lifetime = self.options.token_lifetime;
        let expiry = self.clock.now().timestamp() + i64::from(lifetime);
        let access = seal(
            seed,
            Use::Access,
            &[expiry.cast_unsigned(), login, generation],
        );
        let mut token =
            json!({"access_token": access, "token_type": "Bearer", "expires_in": lifetime});
        if self.options.refresh_tokens {
            token["refresh_token"] = json!(seal(seed, Use::Refresh, &[login, generation]));
        }
        Answer::ok(token)
    }

    /// Whether the request has an access token that has not expired.
    pub(crate) fn eset_allows(&self, incoming: &Incoming) -> bool {
        let words = incoming
            .bearer()
            .and_then(|token| open(self.options.seed, Use::Access, token));
        words.is_some_and(|[expiry, _, _]| expiry.cast_signed() > self.clock.now().timestamp())
    }
}
