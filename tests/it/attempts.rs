//! The request behind an error: its fields are filled wherever one is sent.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use http::{HeaderMap, Method, StatusCode};
use sentinel_connector::{
    core::position::{cursor::Slice, paging::Page, window::Window},
    error::{Attempt, Error, Kind},
    io::{
        clock::Clock,
        http::{Request, Response, SharedTransport, Transport, TransportError},
        token::{Credential, TokenSource},
    },
    secret::{SecretStore, key_vault::KeyVault},
    sink::{PushError, Sink},
    source::{
        Source,
        defender::{
            self, Defender, Quotas,
            hunting::{self, Hunting},
        },
        eset::{self, Eset, LookUps},
    },
    storage::{StateStore, azure::AzureStorage},
};

use crate::{
    azurite::{parsed, signed_in},
    identity::{Azure, SCOPE},
    ingestion::sink_with,
    sink::detections,
};

/// Answers 503 below a path, and passes on all else.
struct Down(&'static str, SharedTransport);

#[async_trait]
impl Transport for Down {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if !request.uri().path().starts_with(self.0) {
            return self.1.send(request).await;
        }
        Ok(Response {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: HeaderMap::new(),
            body: Box::pin(futures_util::stream::empty()),
        })
    }
}

fn down(azure: &Azure, path: &'static str) -> SharedTransport {
    Arc::new(Down(path, azure.transport()))
}

/// The fields of a failure after so many times, with the waits in between.
fn is(error: &Error, method: Method, place: &str, attempts: u32) {
    let found = error.attempt().unwrap_or_else(|| panic!("{error:?}"));
    let expected = Attempt {
        name: found.name.clone(),
        status: Some(StatusCode::SERVICE_UNAVAILABLE),
        attempts,
        elapsed: found.elapsed,
        ..Attempt::new(method, place)
    };
    assert_eq!(*found, expected, "{error}");
    assert_eq!(found.elapsed > Duration::ZERO, attempts > 1, "{error}");
    assert_eq!(error.kind(), Kind::Transient, "{error}");
}

fn last_hour(azure: &Azure) -> Slice {
    let to = azure.clock.now();
    Slice::Window(Window {
        from: to - TimeDelta::hours(1),
        to,
    })
}

async fn error_of(source: &dyn Source, azure: &Azure) -> Error {
    let page = source
        .page(&last_hour(azure), &Page::First, &azure.limits())
        .await;
    match page {
        Err(error) => error,
        Ok(_) => panic!("an error"),
    }
}

#[tokio::test]
async fn the_lists_of_eset_and_defender_and_hunting_name_their_request() {
    let azure = Azure::new();
    let account = eset::Account {
        url_template: "https://sim/eset/eu/{domain}".to_owned(),
        login: azure.simulator.options().login.clone(),
        password: azure.simulator.options().password.clone().into(),
        calls_per_second: NonZeroU32::new(9).unwrap(),
        look_ups: LookUps::default(),
    };
    let wire = azure.wire_to(down(&azure, "/eset/eu/incident-management"));
    let connection = eset::Connection::new(account, wire);
    let error = error_of(&Eset::new(connection, &eset::DETECTIONS), &azure).await;
    let path = "/eset/eu/incident-management/v1/detections";
    is(&error, Method::GET, path, 6);

    let url = |api: &str| format!("https://sim/down/{api}");
    let account = defender::Account {
        tenant: "t".to_owned(),
        client: "c".to_owned(),
        mde_url: url("mde"),
        mde_scope: SCOPE.to_owned(),
        xdr_url: url("xdr"),
        xdr_scope: SCOPE.to_owned(),
        graph_url: url("graph"),
        graph_scope: SCOPE.to_owned(),
        severities: Vec::new(),
        endpoint_alerts: true,
    };
    let wire = azure.wire_to(down(&azure, "/down"));
    let connection = defender::Connection::new(account, &azure.tokens(), &Quotas::default(), &wire);
    let list = Defender::new(Arc::clone(&connection), &defender::ALERTS);
    let error = error_of(&list, &azure).await;
    is(
        &error,
        Method::GET,
        "/down/graph/v1.0/security/alerts_v2",
        6,
    );
    let table = hunting::table("DeviceEvents").unwrap();
    let error = error_of(&Hunting::of(&connection, &table.endpoint).unwrap(), &azure).await;
    let path = "/down/graph/v1.0/security/runHuntingQuery";
    is(&error, Method::POST, path, 6);
    assert!(!error.to_string().contains("https"), "{error}");
}

#[tokio::test]
async fn a_push_names_its_request() {
    let azure = Azure::new();
    let sink = sink_with(&azure, azure.tokens(), down(&azure, "/dataCollectionRules"));
    let Err(PushError::Later(error)) = sink.push(&detections(1)).await else {
        panic!("later");
    };
    let dcr = &azure.simulator.options().dcr;
    let path = format!(
        "/dataCollectionRules/{dcr}/streams/{}",
        sentinel_connector::simulator::STREAM
    );
    is(&error, Method::POST, &path, 1);
}

#[tokio::test]
async fn storage_names_its_request() {
    let azure = Azure::new();
    let account = signed_in(parsed(
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=c2VjcmV0;\
         EndpointSuffix=core.windows.net",
    ));
    let storage = AzureStorage::new(account, azure.wire_to(down(&azure, "/")));
    let error = storage.stored_states().await.err().unwrap();
    is(&error, Method::GET, "/connectorstate()", 6);
}

#[tokio::test]
async fn a_vault_and_those_who_grant_tokens_name_their_request() {
    let azure = Azure::new();
    let wire = azure.wire_to(down(&azure, "/secrets"));
    let vault = KeyVault::new("https://v.vault.azure.net", azure.tokens(), wire);
    let error = vault.secret("eset-password").await.unwrap_err();
    is(&error, Method::GET, "/secrets/eset-password", 3);

    azure.inject("entra.token:503x*");
    azure.inject("identity:503x*");
    let tenant = azure.registration().tenant_id;
    let token = format!("/{tenant}/oauth2/v2.0/token");
    let managed = Credential::choose(None, None, Some(&azure.platform()));
    for (credential, method, path) in [
        (
            Credential::Registration(azure.registration()),
            Method::POST,
            token.as_str(),
        ),
        (managed, Method::GET, "/msi/token"),
    ] {
        let tokens = azure.identity(credential);
        let error = tokens.token(SCOPE, None, &azure.limits()).await;
        is(&error.unwrap_err(), method, path, 3);
    }
}
