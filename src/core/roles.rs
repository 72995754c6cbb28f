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

/// The roles beyond those that are `enough`.
pub fn beyond(roles: Vec<String>, enough: &[&str]) -> Vec<String> {
    let mut beyond = roles;
    beyond.retain(|role| !enough.contains(&role.as_str()));
    beyond.sort_unstable();
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
        let roles = roles.unwrap();
        assert_eq!(roles, ["A.Read.All", "A.ReadWrite.All"]);
        assert_eq!(beyond(roles, &["A.Read.All"]), ["A.ReadWrite.All"]);
        assert_eq!(claimed(&token("{}")), Some(Vec::new()));
        for strange in ["", "opaque", "a.b.c", &token(r#"{"roles":7}"#)] {
            assert_eq!(claimed(strange), None, "{strange}");
        }
    }
}
