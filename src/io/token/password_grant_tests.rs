use std::{sync::Arc, time::Duration};

use super::*;
use crate::io::{
    clock::Clock,
    script::{Peer, Step, start},
};

const PASSWORD: &str = "secret &password";

fn login(peer: &Arc<Peer>) -> Arc<PasswordGrant> {
    let url = "https://secret-host.example/oauth/token".to_owned();
    let password = PASSWORD.to_owned().into();
    Arc::new(PasswordGrant::new(
        "eset login",
        url,
        "api@example.org",
        password,
        peer.asker(),
    ))
}

fn granted(access: &str, refresh: Option<&str>, life: i64) -> Step {
    let mut answer = serde_json::json!({
        "access_token": access, "token_type": "bearer", "expires_in": life,
    });
    if let Some(refresh) = refresh {
        answer["refresh_token"] = refresh.into();
    }
    Step::ok(&answer.to_string())
}

async fn token(login: &PasswordGrant, refused: Option<&str>, peer: &Peer) -> String {
    let refused = refused.map(SecretString::from);
    let refused = refused.as_ref().map(Rejected::Refused);
    let token = login.token("", refused, &peer.limits(240)).await;
    token.unwrap().expose_secret().to_owned()
}

async fn failure(login: &PasswordGrant, peer: &Peer) -> Error {
    let error = login.token("", None, &peer.limits(240)).await.unwrap_err();
    for secret in ["secret", "password=", "api@example.org", "r1", "grant_type"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    error
}

fn after(peer: &Peer, seconds: u64) {
    peer.clock().advance(Duration::from_secs(seconds));
}

#[tokio::test]
async fn a_token_is_held_and_refreshed_before_it_expires() {
    let peer = Peer::new(
        [
            granted("a1", Some("r1+/="), 3600),
            granted("a2", Some("r2"), 3600),
            granted("a3", None, 3600),
            granted("a4", None, 3600),
        ],
        [],
    );
    let login = login(&peer);
    assert_eq!(token(&login, None, &peer).await, "a1");
    after(&peer, 3539);
    assert_eq!(token(&login, None, &peer).await, "a1");
    after(&peer, 1);
    assert_eq!(token(&login, None, &peer).await, "a2");
    after(&peer, 3540);
    assert_eq!(token(&login, None, &peer).await, "a3");
    // A refresh token that was not replaced goes on being used.
    after(&peer, 3540);
    assert_eq!(token(&login, None, &peer).await, "a4");
    insta::assert_snapshot!(peer.asked(), @"
      0 POST /oauth/token grant_type=password&username=api%40example.org&password=secret%20%26password
    3540 POST /oauth/token grant_type=refresh_token&refresh_token=r1%2B%2F%3D
    7080 POST /oauth/token grant_type=refresh_token&refresh_token=r2
    10620 POST /oauth/token grant_type=refresh_token&refresh_token=r2
    ");
}

#[tokio::test]
async fn without_a_refresh_token_the_password_is_used_again() {
    let peer = Peer::new([granted("a1", None, 3600), granted("a2", None, 3600)], []);
    let login = login(&peer);
    token(&login, None, &peer).await;
    after(&peer, 3600);
    assert_eq!(token(&login, None, &peer).await, "a2");
    assert_eq!(peer.asked().matches("grant_type=password").count(), 2);
}

#[tokio::test]
async fn a_refused_refresh_token_falls_back_to_the_password() {
    for status in [400, 401, 403] {
        let peer = Peer::new(
            [
                granted("a1", Some("r1"), 3600),
                Step::status(status),
                granted("a2", None, 60),
            ],
            [],
        );
        let login = login(&peer);
        token(&login, None, &peer).await;
        after(&peer, 3600);
        assert_eq!(token(&login, None, &peer).await, "a2", "{status}");
        assert_eq!(peer.asked_times(), 3);
    }
}

#[tokio::test]
async fn a_refused_access_token_is_refreshed_and_then_the_password_is_used_in_the_same_run() {
    let peer = Peer::new(
        [
            granted("a1", Some("r1"), 3600),
            granted("a2", Some("r2"), 3600),
            granted("a3", None, 3600),
        ],
        [Step::status(401), Step::status(401), Step::ok("")],
    );
    let asker = peer.asker().with_tokens(login(&peer), "");
    let question = ApiRequest {
        name: "eset.detections".to_owned(),
        method: Method::GET,
        url: "https://secret-host.example/v1/detections".to_owned(),
        body: None,
        has_position: false,
        manner: RequestOptions::default(),
    };
    let reply = asker.ask(&question, &peer.limits(240)).await.unwrap();
    assert!(matches!(reply, Reply::Answer(_)));
    insta::assert_snapshot!(peer.asked(), @"
    0 POST /oauth/token grant_type=password&username=api%40example.org&password=secret%20%26password
    0 GET /v1/detections authorization: Bearer a1
    0 POST /oauth/token grant_type=refresh_token&refresh_token=r1
    0 GET /v1/detections authorization: Bearer a2
    0 POST /oauth/token grant_type=password&username=api%40example.org&password=secret%20%26password
    0 GET /v1/detections authorization: Bearer a3
    ");
}

#[tokio::test]
async fn a_token_that_somebody_else_replaced_is_not_replaced_again() {
    let peer = Peer::new(
        [granted("a1", Some("r1"), 3600), granted("a2", None, 3600)],
        [],
    );
    let login = login(&peer);
    token(&login, None, &peer).await;
    assert_eq!(token(&login, Some("a1"), &peer).await, "a2");
    assert_eq!(token(&login, Some("a1"), &peer).await, "a2");
    assert_eq!(peer.asked_times(), 2);
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_login() {
    let slow = granted("a1", None, 3600).after(Duration::from_secs(5));
    let peer = Peer::new([slow], []);
    let login = login(&peer);
    let limits = peer.limits(240);
    let asks = (0..20).map(|_| login.token("", None, &limits));
    for token in futures_util::future::join_all(asks).await {
        assert_eq!(token.unwrap().expose_secret(), "a1");
    }
    assert_eq!(peer.asked_times(), 1);
}

#[tokio::test]
async fn a_wrong_password_is_named_with_what_to_mend_and_not_shown() {
    for status in [400, 401, 403] {
        let refused = Step::Answer(
            status,
            vec![("request-id", "q-1".to_owned())],
            format!(r#"{{"error":"invalid_grant","password":"{PASSWORD}"}}"#),
            Duration::ZERO,
        );
        let peer = Peer::new([refused], []);
        let error = failure(&login(&peer), &peer).await;
        assert_eq!((error.kind(), peer.asked_times()), (Kind::Config, 1));
        assert!(
            error.to_string().contains(&format!("answered {status}")),
            "{error}"
        );
        if status == 401 {
            insta::assert_snapshot!(error, @"eset login: answered 401 Unauthorized (request-id q-1): check the login and the password, that the region is the tenant's, and that the account is an API user with `Integrations` enabled");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_not_taken_for_a_wrong_password() {
    let peer = Peer::new([], []);
    let password = PASSWORD.to_owned().into();
    let login = PasswordGrant::new(
        "eset login",
        "https://a b/".to_owned(),
        "x",
        password,
        peer.asker(),
    );
    let error = failure(&login, &peer).await;
    insta::assert_snapshot!(error, @"eset login: not a URL: invalid uri character");
}

#[tokio::test]
async fn an_answer_without_a_token_is_a_broken_contract_and_not_quoted() {
    for body in [
        "",
        "{}",
        r#"{"access_token":7,"note":"secret"}"#,
        r#"{"refresh_token":"r1"}"#,
    ] {
        let peer = Peer::new([Step::ok(body)], []);
        let error = failure(&login(&peer), &peer).await;
        assert_eq!(error.kind(), Kind::Contract);
        assert_eq!(
            error.to_string(),
            "eset login: POST /oauth/token: the answer holds no access token"
        );
    }
}

#[tokio::test]
async fn an_outage_keeps_what_is_held() {
    let down = || std::iter::repeat_with(|| Step::status(503)).take(6);
    let mut script = vec![granted("a1", Some("r1"), 3600)];
    script.extend(down());
    script.extend(down());
    script.push(granted("a2", None, 3600));
    let peer = Peer::new(script, []);
    let login = login(&peer);
    token(&login, None, &peer).await;
    // Still good while the service is down: in its last minute it is due, but not dead.
    after(&peer, 3545 - 40);
    let limits = peer.limits(600);
    peer.clock().advance(Duration::from_secs(35));
    let held = login.token("", None, &limits).await.unwrap();
    assert_eq!(held.expose_secret(), "a1");
    after(&peer, 60);
    assert_eq!(failure(&login, &peer).await.kind(), Kind::Transient);
    assert_eq!(token(&login, None, &peer).await, "a2");
    assert_eq!(peer.asked().matches("grant_type=password").count(), 1);
}

#[tokio::test]
async fn a_refused_token_is_not_handed_out_again_in_an_outage() {
    let mut script = vec![granted("a1", Some("r1"), 3600)];
    script.extend(std::iter::repeat_with(|| Step::status(503)).take(6));
    let peer = Peer::new(script, []);
    let login = login(&peer);
    token(&login, None, &peer).await;
    let refused = SecretString::from("a1");
    let refused = Some(Rejected::Refused(&refused));
    let error = login.token("", refused, &peer.limits(240)).await;
    assert_eq!(error.unwrap_err().kind(), Kind::Transient);
}

#[tokio::test]
async fn a_short_life_is_used_for_half_of_it() {
    let peer = Peer::new([granted("a1", None, 40), granted("a2", None, 0)], []);
    let login = login(&peer);
    token(&login, None, &peer).await;
    after(&peer, 19);
    assert_eq!(token(&login, None, &peer).await, "a1");
    after(&peer, 1);
    assert_eq!(token(&login, None, &peer).await, "a2");
}

#[tokio::test]
async fn a_pending_login_is_asked_for_again_with_its_response_id() {
    let pending = Step::status(202).header("response-id", "p-1");
    let peer = Peer::new([pending, granted("a1", None, 3600)], []);
    assert_eq!(token(&login(&peer), None, &peer).await, "a1");
    assert!(
        peer.asked()
            .lines()
            .nth(1)
            .unwrap()
            .contains("response-id: p-1 grant_type")
    );
    assert_eq!(peer.clock().now(), start() + TimeDelta::seconds(2));
}

#[tokio::test]
async fn a_stop_ends_a_login_for_all_who_wait_for_it() {
    for step in [Step::Silence, Step::Stall] {
        let peer = Peer::new([step], []);
        let login = login(&peer);
        let limits = peer.limits(240);
        let asks = futures_util::future::join_all((0..3).map(|_| login.token("", None, &limits)));
        let (tokens, ()) = tokio::join!(asks, async {
            tokio::task::yield_now().await;
            limits.stop.cancel();
        });
        for token in tokens {
            assert_eq!(token.unwrap_err().kind(), Kind::Transient);
        }
        assert_eq!(peer.asked_times(), 1);
    }
}

#[tokio::test]
async fn a_refused_password_is_sent_once_in_a_run() {
    let refusals = [400, 400, 400].map(Step::status);
    let peer = Peer::new(refusals, []);
    let login = login(&peer);
    let run = peer.limits(100);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(login.token("", None, &run).await.unwrap_err());
    }
    assert!(told.iter().all(|error| *error == told[0]), "{told:?}");
    assert_eq!(told[0].kind(), Kind::Config);
    assert_eq!(peer.asked_times(), 1);
    // The next run may find it mended.
    let next = login.token("", None, &peer.limits(400)).await;
    next.unwrap_err();
    assert_eq!(peer.asked_times(), 2);
}
