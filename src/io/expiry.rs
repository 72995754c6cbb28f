//! Credentials that end one day, and how long they still last.

use chrono::{DateTime, Utc};

use super::password::Password;

/// A credential that may have an end.
#[derive(Debug, Clone)]
pub struct Expiring {
    name: String,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    At(DateTime<Utc>),
    /// Whoever keeps it knows.
    Of(Password),
}

/// How long a credential lasts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lasts {
    /// Its name, for people. Never its value.
    pub name: String,
    /// Whole days until it ends, negative when it has.
    pub days_left: i64,
}

impl Expiring {
    /// A credential that ends at `end`.
    pub fn at(name: impl Into<String>, end: DateTime<Utc>) -> Self {
        Self {
            name: name.into(),
            end: End::At(end),
        }
    }

    /// A password, which ends when its keeper says so.
    pub fn password(name: impl Into<String>, password: Password) -> Self {
        Self {
            name: name.into(),
            end: End::Of(password),
        }
    }

    /// How long it lasts, as far as somebody has said so. A password that nobody has needed yet is
    /// not asked for.
    pub async fn lasts(&self, now: DateTime<Utc>) -> Option<Lasts> {
        let end = match &self.end {
            End::At(end) => *end,
            End::Of(password) => password.expires().await?,
        };
        Some(Lasts {
            name: self.name.clone(),
            days_left: (end - now).num_seconds().div_euclid(24 * 3600),
        })
    }
}

/// How long each of them lasts, the one that ends first at the beginning.
pub async fn all(expiring: &[Expiring], now: DateTime<Utc>) -> Vec<Lasts> {
    let mut all = Vec::new();
    for one in expiring {
        all.extend(one.lasts(now).await);
    }
    all.sort_by_key(|lasts| lasts.days_left);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn days_left_are_whole_and_go_below_zero() {
        let expiring = Expiring::at("it", "2026-03-10T12:00:00Z".parse().unwrap());
        for (now, expected) in [
            ("2026-03-09T12:00:00Z", 1),
            ("2026-03-09T12:00:01Z", 0),
            ("2026-03-10T12:00:01Z", -1),
        ] {
            let lasts = expiring.lasts(now.parse().unwrap()).await.unwrap();
            assert_eq!(lasts.days_left, expected, "{now}");
        }
    }

    #[tokio::test]
    async fn the_first_to_end_comes_first_and_a_given_password_has_no_end() {
        let day = |text: &str| text.parse().unwrap();
        let expiring = [
            Expiring::at("later", day("2026-03-10T12:00:00Z")),
            Expiring::password("given", "canary".to_owned().into()),
            Expiring::at("sooner", day("2026-03-08T12:00:00Z")),
        ];
        let all = all(&expiring, day("2026-03-01T12:00:00Z")).await;
        let names: Vec<&str> = all.iter().map(|lasts| lasts.name.as_str()).collect();
        assert_eq!(names, ["sooner", "later"]);
        assert!(!format!("{expiring:?}").contains("canary"));
    }
}
