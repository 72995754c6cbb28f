//! What an access token says about the application roles of its app.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The roles that a token names. It is looked into, and not verified: whoever gave it to us is
/// trusted, and nothing is decided by it. `None` when it can't be looked into.
pub fn claimed(token: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        roles: Vec<String>,
    }
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(claims.roles)
}

/// A role that an app holds, and that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// The role.
    pub role: String,
    /// The one that would be enough, where so far this one opens what is read.
    pub instead: Option<&'static str>,
}

impl Beyond {
    /// True when it allows more than to read.
    pub fn is_more_than_reading(&self) -> bool {
        !self.role.contains(".Read.")
    }
}

/// The roles of `held` that are not needed, those that allow more than to read first. `opens` names
/// for each thing that is read the roles of which one opens it, the one that is enough first.
pub fn beyond(held: &[String], opens: &[&'static [&'static str]]) -> Vec<Beyond> {
    let holds = |role: &str| held.iter().any(|one| one == role);
    let is_enough = |role: &String| {
        opens
            .iter()
            .any(|roles| roles.first() == Some(&role.as_str()))
    };
    let lives_on = |role: &str| {
        let mut living = opens.iter().filter(|roles| roles.contains(&role));
        living.find_map(|roles| roles.first().copied().filter(|enough| !holds(enough)))
    };
    let mut beyond: Vec<Beyond> = held
        .iter()
        .filter(|role| !is_enough(role))
        .map(|role| Beyond {
            role: role.clone(),
            instead: lives_on(role),
        })
        .collect();
    beyond.sort_unstable_by(|one, other| {
        let order = |one: &Beyond| (!one.is_more_than_reading(), one.role.clone());
        order(one).cmp(&order(other))
    });
    beyond.dedup();
    beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_roles_in_its_middle() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let roles = claimed(&token(
            r#"{"aud":"x","roles":["A.Read.All","A.ReadWrite.All"]}"#,
        ));
        assert_eq!(roles.unwrap(), ["A.Read.All", "A.ReadWrite.All"]);
        assert_eq!(claimed(&token("{}")), Some(Vec::new()));
        for strange in ["", "opaque", "a.b.c", &token(r#"{"roles":7}"#)] {
            assert_eq!(claimed(strange), None, "{strange}");
        }
    }

    #[test]
    fn what_nothing_needs_is_told_and_what_something_lives_on_has_a_substitute() {
        const A: &[&str] = &["A.Read.All", "A.ReadWrite.All", "B.Read.All"];
        const B: &[&str] = &["B.Read.All"];
        let told = |held: &[&str], opens: &[&'static [&'static str]]| {
            let held: Vec<String> = held.iter().map(|role| (*role).to_owned()).collect();
            let beyond = beyond(&held, opens).into_iter();
            let told = |one: Beyond| format!("{} {}", one.role, one.instead.unwrap_or("-"));
            beyond.map(told).collect::<Vec<_>>()
        };
        assert_eq!(told(&["A.Read.All", "B.Read.All"], &[A, B]), [""; 0]);
        assert_eq!(
            told(&["Z.Read.All", "A.ReadWrite.All", "A.Read.All"], &[A]),
            ["A.ReadWrite.All -", "Z.Read.All -"]
        );
        // It is the only one that opens A.
        assert_eq!(
            told(&["A.ReadWrite.All"], &[A]),
            ["A.ReadWrite.All A.Read.All"]
        );
        assert_eq!(told(&["B.Read.All"], &[A]), ["B.Read.All A.Read.All"]);
        // B is read by it, too.
        assert_eq!(told(&["B.Read.All"], &[A, B]), [""; 0]);
        assert_eq!(told(&["A.Read.All"], &[]), ["A.Read.All -"]);
    }
}
