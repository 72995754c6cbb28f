use async_trait::async_trait;

use super::*;
use crate::{
    error::Kind,
    io::{
        clock::Clock,
        script::{Peer, Step, start},
        token::TokenSource,
    },
};

fn question() -> ApiRequest {
    ApiRequest {
        name: "eset.detections".to_owned(),
        method: Method::GET,
        url: "https://secret-host.example/v1/detections?deltaToken=secret-query".to_owned(),
        body: None,
        has_position: false,
        manner: RequestOptions::default(),
    }
}

/// Tokens `t1`, `t2`, …: a new one whenever one is refused.
struct Numbered;

#[async_trait]
impl TokenSource for Numbered {
    async fn token(
        &self,
        _: &str,
        rejected: Option<Rejected<'_>>,
        _: &Limits,
    ) -> Result<SecretString> {
        let last: u32 = match rejected {
            None => 0,
            Some(Rejected::Refused(token) | Rejected::LacksRole(token)) => {
                let number = token.expose_secret().trim_start_matches('t');
                number.parse().unwrap()
            }
        };
        Ok(format!("t{}", last + 1).into())
    }
}

async fn body_of(reply: Reply) -> String {
    let Reply::Answer(response) = reply else {
        panic!("an answer");
    };
    String::from_utf8(response.whole_body().await.unwrap().to_vec()).unwrap()
}

/// The error of a question, which must not give away where and with what it was asked.
async fn error_of(peer: &Arc<Peer>, limits: &Limits) -> Error {
    let asker = peer.asker().with_tokens(Arc::new(Numbered), "");
    let Err(error) = asker.ask(&question(), limits).await else {
        panic!("an error");
    };
    for secret in ["secret-host", "secret-query", "deltaToken", "t1", "Bearer"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    error
}

fn seconds_of(peer: &Peer) -> i64 {
    (peer.clock().now() - start()).num_seconds()
}

#[tokio::test]
async fn a_pending_answer_is_asked_for_again_as_it_was_with_the_response_id() {
    let peer = Peer::new(
        [],
        [
            Step::status(202).header("response-id", "r-1"),
            Step::status(202).header("retry-after", "10"),
            Step::status(202).header("response-id", "r-2"),
            Step::ok("done"),
        ],
    );
    let asker = peer.asker().with_tokens(Arc::new(Numbered), "");
    let mut post = question();
    post.method = Method::POST;
    post.body = Some(("application/json", "{}".into()));
    let reply = asker.ask(&post, &peer.limits(240)).await.unwrap();
    assert_eq!(body_of(reply).await, "done");
    insta::assert_snapshot!(peer.asked(), @"
     0 POST /v1/detections?deltaToken=secret-query authorization: Bearer t1 {}
     2 POST /v1/detections?deltaToken=secret-query authorization: Bearer t1 response-id: r-1 {}
    12 POST /v1/detections?deltaToken=secret-query authorization: Bearer t1 response-id: r-1 {}
    14 POST /v1/detections?deltaToken=secret-query authorization: Bearer t1 response-id: r-2 {}
    ");
}

#[tokio::test]
async fn a_dead_response_id_is_dropped() {
    for dead in [404, 504] {
        let peer = Peer::new(
            [],
            [
                Step::status(202).header("response-id", "r-1"),
                Step::status(dead),
                Step::ok("done"),
            ],
        );
        let reply = peer.asker().ask(&question(), &peer.limits(240)).await;
        assert_eq!(body_of(reply.unwrap()).await, "done");
        let asked = peer.asked();
        let with_id: Vec<bool> = asked.lines().map(|line| line.contains("r-1")).collect();
        assert_eq!(with_id, [false, true, false], "{dead}");
    }
}

#[tokio::test]
async fn an_answer_that_is_never_ready_ends_with_the_deadline() {
    let pending = || Step::status(202).header("response-id", "r-1");
    let peer = Peer::new([], std::iter::repeat_with(pending).take(500));
    let error = error_of(&peer, &peer.limits(60)).await;
    assert_eq!(error.kind(), Kind::Transient);
    insta::assert_snapshot!(error, @"eset.detections: GET /v1/detections: answered 202 Accepted, and 2 s more do not fit this run; the next one goes on from here");
    assert!(seconds_of(&peer) <= 60);
}

#[tokio::test]
async fn a_busy_service_is_given_the_time_it_asks_for_or_more_each_time() {
    let peer = Peer::new(
        [],
        [
            Step::status(429).header("retry-after", "7"),
            Step::status(429),
            Step::status(503),
            Step::status(500).header("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"),
            Step::Break("connection reset"),
            Step::ok(""),
        ],
    );
    peer.asker()
        .ask(&question(), &peer.limits(240))
        .await
        .unwrap();
    insta::assert_snapshot!(peer.asked(), @"
     0 GET /v1/detections?deltaToken=secret-query
     7 GET /v1/detections?deltaToken=secret-query
     9 GET /v1/detections?deltaToken=secret-query
    13 GET /v1/detections?deltaToken=secret-query
    60 GET /v1/detections?deltaToken=secret-query
    76 GET /v1/detections?deltaToken=secret-query
    ");
}

#[tokio::test]
async fn attempts_are_counted_and_then_given_up() {
    let peer = Peer::new([], std::iter::repeat_with(|| Step::status(503)).take(20));
    let error = error_of(&peer, &peer.limits(600)).await;
    assert_eq!((error.kind(), peer.asked_times()), (Kind::Transient, 6));
    insta::assert_snapshot!(error, @"eset.detections: GET /v1/detections: answered 503 Service Unavailable (6 attempts in 31 s); the next run goes on from here");
}

#[tokio::test]
async fn a_wait_that_does_not_fit_the_run_is_not_begun() {
    for wait in ["60", "3600", "99999999999"] {
        let peer = Peer::new([], [Step::status(429).header("retry-after", wait)]);
        let error = error_of(&peer, &peer.limits(60)).await;
        assert_eq!((error.kind(), peer.asked_times()), (Kind::Transient, 1));
        assert_eq!(peer.clock().now(), start());
        assert!(error.to_string().contains("do not fit this run"), "{error}");
    }
}

#[tokio::test]
async fn nothing_is_asked_after_the_deadline() {
    let peer = Peer::new([], [Step::ok("")]);
    let error = error_of(&peer, &peer.limits(0)).await;
    assert_eq!((error.kind(), peer.asked_times()), (Kind::Transient, 0));
    // Whoever reads it knows what took the time, and that nobody has to act.
    let text = error.to_string();
    let awaited = "waiting for its turn within the limit of calls a second";
    assert!(text.contains(awaited) && !text.contains("report"), "{text}");
}

#[tokio::test]
async fn a_slow_answer_is_no_answer_and_the_deadline_cuts_it() {
    let slow = |seconds| Step::ok("late").after(Duration::from_secs(seconds));
    let peer = Peer::new([], [slow(76), slow(75)]);
    let reply = peer.asker().ask(&question(), &peer.limits(600)).await;
    assert_eq!(body_of(reply.unwrap()).await, "late");
    assert_eq!(peer.asked_times(), 2);

    let peer = Peer::new([], [slow(31)]);
    let error = error_of(&peer, &peer.limits(30)).await;
    assert_eq!(error.kind(), Kind::Transient);
}

#[tokio::test]
async fn a_stop_is_heeded_at_once_before_during_and_between_questions() {
    let peer = Peer::new([], [Step::ok("")]);
    let limits = peer.limits(240);
    limits.stop.cancel();
    let error = error_of(&peer, &limits).await;
    assert_eq!((error.kind(), peer.asked_times()), (Kind::Transient, 0));

    for step in [Step::Silence, Step::status(503)] {
        let peer = Peer::new([], [step]);
        let limits = peer.limits(240);
        let stop = limits.stop.clone();
        let (error, ()) = tokio::join!(error_of(&peer, &limits), async {
            tokio::task::yield_now().await;
            stop.cancel();
        });
        assert!(error.to_string().contains("asked to stop"), "{error}");
        assert_eq!((error.kind(), peer.asked_times()), (Kind::Transient, 1));
        assert!(seconds_of(&peer) <= 1);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_ends_with_a_stop() {
    let peer = Peer::new([], [Step::Stall]);
    let (asker, limits) = (peer.asker(), peer.limits(240));
    let Ok(Reply::Answer(response)) = asker.ask(&question(), &limits).await else {
        panic!("an answer");
    };
    let stop = limits.stop.clone();
    let question = question();
    let (body, ()) = tokio::join!(asker.whole_body(&question, response, &limits), async {
        stop.cancel();
    });
    insta::assert_snapshot!(body.unwrap_err(), @"eset.detections: GET /v1/detections: asked to stop");
}

#[tokio::test]
async fn a_refused_token_is_replaced_twice_and_then_the_rights_are_wrong() {
    let peer = Peer::new([], [Step::status(401), Step::status(401), Step::ok("done")]);
    let asker = peer.asker().with_tokens(Arc::new(Numbered), "");
    let reply = asker.ask(&question(), &peer.limits(240)).await.unwrap();
    assert_eq!(body_of(reply).await, "done");

    let peer = Peer::new([], std::iter::repeat_with(|| Step::status(401)).take(9));
    let error = error_of(&peer, &peer.limits(240)).await;
    assert_eq!((error.kind(), peer.asked_times()), (Kind::Config, 3));
    insta::assert_snapshot!(error, @"eset.detections: GET /v1/detections: answered 401 Unauthorized even with a new access token: check the account's rights");
}

#[tokio::test]
async fn each_status_is_its_reply() {
    let reply = async |status: u16, has_position: bool| {
        let peer = Peer::new([], [Step::status(status).header("request-id", "q-1")]);
        let question = ApiRequest {
            has_position,
            ..question()
        };
        match peer
            .asker()
            .ask(&question, &peer.limits(240))
            .await
            .unwrap()
        {
            Reply::Answer(_) => "answer".to_owned(),
            Reply::PositionRefused(what) => format!("position refused: {what}"),
            Reply::NotOffered(what) => format!("not offered: {what}"),
            Reply::NotThere(what) => format!("not there: {what}"),
            Reply::TooLarge(what) => format!("too large: {what}"),
            Reply::UsedUp(what) => format!("used up: {what}"),
            Reply::Forbidden(what) => format!("forbidden: {what}"),
            Reply::Unexpected(what, _) => format!("unexpected: {what}"),
        }
    };
    assert_eq!(reply(200, false).await, "answer");
    assert_eq!(
        reply(410, true).await,
        "position refused: answered 410 Gone (request-id q-1)"
    );
    assert_eq!(
        reply(501, true).await,
        "not there: answered 501 Not Implemented (request-id q-1)"
    );
    assert_eq!(
        reply(403, true).await,
        "forbidden: answered 403 Forbidden (request-id q-1)"
    );
    // Without tokens there is none to replace.
    assert_eq!(
        reply(401, true).await,
        "forbidden: answered 401 Unauthorized (request-id q-1)"
    );
    assert_eq!(
        reply(400, false).await,
        "unexpected: answered 400 Bad Request (request-id q-1)"
    );
}

#[test]
fn a_question_shows_neither_host_nor_query_nor_body() {
    let question = ApiRequest {
        body: Some(("text/plain", "secret-body".into())),
        ..question()
    };
    assert_eq!(
        format!("{question:?}"),
        r#"Question("eset.detections: GET /v1/detections")"#
    );
}

/// Tokens `t1`, and `t2` for those that lack a role; what each question was given in its place.
struct Consented;

#[async_trait]
impl TokenSource for Consented {
    async fn token(
        &self,
        _: &str,
        rejected: Option<Rejected<'_>>,
        _: &Limits,
    ) -> Result<SecretString> {
        let Some(Rejected::LacksRole(lacks)) = rejected else {
            return Ok("t1".into());
        };
        assert_eq!(lacks.expose_secret(), "t1");
        Ok("t2".into())
    }
}

#[tokio::test]
async fn a_missing_role_is_believed_when_a_new_token_lacks_it_too() {
    let lacks = |role: &str| {
        let message = format!("Missing application roles. API required roles: {role}.");
        let body = serde_json::json!({"error": {"code": "Forbidden", "message": message}});
        Step::Answer(403, Vec::new(), body.to_string(), Duration::ZERO)
    };
    let mut question = question();
    question.manner.asks = Some(ErrorDialect::List);
    let peer = Peer::new([], [lacks("SecurityAlert.Read.All"), Step::ok("{}")]);
    let asker = peer.asker().with_tokens(Arc::new(Consented), "");
    let reply = asker.ask(&question, &peer.limits(60)).await.unwrap();
    assert_eq!(body_of(reply).await, "{}");
    let asked = peer.asked();
    let (first, second) = asked.split_once('\n').unwrap();
    assert!(
        first.contains("Bearer t1") && second.contains("Bearer t2"),
        "{asked}"
    );

    let both = [
        lacks("SecurityAlert.Read.All"),
        lacks("SecurityAlert.Read.All"),
    ];
    let peer = Peer::new([], both);
    let asker = peer.asker().with_tokens(Arc::new(Consented), "");
    let reply = asker.ask(&question, &peer.limits(60)).await.unwrap();
    assert!(
        matches!(reply, Reply::Forbidden(what) if what.to_string().contains("SecurityAlert.Read.All"))
    );
    assert_eq!(peer.asked_times(), 2);

    // A 403 that names no role says nothing of the token.
    let peer = Peer::new([], [Step::status(403)]);
    let asker = peer.asker().with_tokens(Arc::new(Consented), "");
    let reply = asker.ask(&question, &peer.limits(60)).await.unwrap();
    assert!(matches!(reply, Reply::Forbidden(_)));
    assert_eq!(peer.asked_times(), 1);
}

#[tokio::test]
async fn a_web_page_is_no_answer_and_names_the_host() {
    let page = Step::ok("<html>blocked by your company</html>")
        .header("content-type", "text/html; charset=utf-8");
    let peer = Peer::new([], [page]);
    let asked = peer.asker();
    let Reply::Answer(response) = asked.ask(&question(), &peer.limits(60)).await.unwrap() else {
        panic!("an answer");
    };
    let error = response.whole_body().await.unwrap_err().to_string();
    assert!(
        error.contains("web page") && error.contains("`secret-host.example`"),
        "{error}"
    );
    assert!(
        !error.contains("secret-query") && !error.contains("company"),
        "{error}"
    );
}

/// A peer that a proxy stands in front of.
struct Inspected;

#[async_trait]
impl crate::io::http::Transport for Inspected {
    async fn send(&self, _: Request) -> std::result::Result<Response, TransportError> {
        Err(TransportError::blocked("the certificate is not trusted"))
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_at_once_to_the_operator() {
    let peer = Peer::new([], []);
    let wire = Wire {
        transport: Arc::new(Inspected),
        ..peer.wire()
    };
    let asker = ApiClient {
        wire,
        ..peer.asker()
    };
    let Err(error) = asker.ask(&question(), &peer.limits(60)).await else {
        panic!("an error");
    };
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    assert!(
        text.contains("eset.detections: GET /v1/detections: the certificate"),
        "{text}"
    );
    assert_eq!(seconds_of(&peer), 0);
}
