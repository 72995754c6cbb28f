//! The account as an identity sees it: access tokens over https, and no key.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::AUTHORIZATION;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::{ExposeSecret, SecretString};
use sentinel_connector::{
    check::{self, Found},
    error::{Error, Kind, Result},
    io::{
        clock::{Clock, SystemClock},
        http::{Network, Request, Response, SharedTransport, Transport, TransportError},
        retry::Limits,
        token::{Rejected, TokenSource},
        wire::Wire,
    },
    storage::{
        Outbox, StateStore, Storage,
        azure::{Account, AzureStorage, Login},
    },
};
use serde_json::json;

use super::{conforms, key, parked};
use crate::azurite::{Azurite, QUEUE_READER, READERS, wire};

/// A token as Entra makes them, but for the signature, which the emulator does not look at.
fn token(audience: &str) -> String {
    let now = SystemClock.now().timestamp();
    token_until(audience, now + 600)
}

fn token_until(audience: &str, end: i64) -> String {
    token_of("somebody", audience, end)
}

fn token_of(who: &str, audience: &str, end: i64) -> String {
    let now = SystemClock.now().timestamp();
    let claims = json!({
        "aud": audience,
        "oid": who,
        "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
        "iat": now - 900, "nbf": now - 900, "exp": end,
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "RS256", "typ": "JWT" }));
    format!("{head}.{}.c2lnbmF0dXJl", part(claims))
}

/// Hands out the first token, and the second in place of it, for one scope.
struct Given(String, String);

#[async_trait]
impl TokenSource for Given {
    async fn token(
        &self,
        scope: &str,
        rejected: Option<Rejected<'_>>,
        _: &Limits,
    ) -> Result<SecretString> {
        assert_eq!(scope, "https://storage.azure.com/.default");
        let Some(Rejected::Refused(refused)) = rejected else {
            return Ok(self.0.clone().into());
        };
        assert_eq!(refused.expose_secret(), self.0);
        Ok(self.1.clone().into())
    }
}

struct Refuses;

#[async_trait]
impl TokenSource for Refuses {
    async fn token(&self, _: &str, _: Option<Rejected<'_>>, _: &Limits) -> Result<SecretString> {
        Err(Error::config("no identity is assigned"))
    }
}

/// Writes down how requests were signed.
struct Seen {
    network: Network,
    schemes: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Seen {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let scheme = request.headers()[AUTHORIZATION].to_str().unwrap();
        let scheme = scheme.split(' ').next().unwrap().to_owned();
        self.schemes.lock().unwrap().push(scheme);
        self.network.send(request).await
    }
}

/// The emulator with a certificate of an authority of our own, and a network that trusts it.
struct Scene {
    azurite: Azurite,
    seen: Arc<Seen>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&authority_key).unwrap().pem();
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let server = server.signed_by(&server_key, &issuer).unwrap();
        std::fs::write(&certificate, server.pem()).unwrap();
        std::fs::write(&key, server_key.serialize_pem()).unwrap();
        Self {
            azurite: Azurite::with_tokens(&certificate, &key),
            seen: Arc::new(Seen {
                network: Network::loopback(root.as_bytes()).unwrap(),
                schemes: Mutex::default(),
            }),
        }
    }

    fn account(&self, tokens: impl TokenSource + 'static) -> Account {
        let mut settings = self.azurite.settings();
        settings.login = Login::Identity {
            client_id: Some("an id".to_owned()),
        };
        let sign_in = settings.sign_in(|client_id| {
            assert_eq!(client_id, Some("an id"));
            Ok(Arc::new(tokens))
        });
        sign_in.unwrap()
    }

    fn storage(&self, account: &Account) -> AzureStorage {
        let transport = Arc::clone(&self.seen) as SharedTransport;
        AzureStorage::new(
            account.clone(),
            Wire {
                transport,
                ..wire()
            },
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_conforms_with_access_tokens() {
    let scene = Scene::new();
    let good = token("https://storage.azure.com");
    let account = scene.account(Given(good.clone(), good.clone()));
    let [one, two] = [(); 2].map(|()| scene.storage(&account));
    conforms(&one, &two).await;
    let schemes = scene.seen.schemes.lock().unwrap().clone();
    assert!(schemes.iter().all(|scheme| scheme == "Bearer"));

    let elsewhere = token("https://vault.azure.net");
    let given = Given(elsewhere.clone(), elsewhere.clone());
    let storage = scene.storage(&scene.account(given));
    let storage: &dyn Storage = &storage;
    for error in [
        storage.load(&key("a")).await.unwrap_err(),
        storage.park(&parked("a", b"[]")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(text.contains("the access token is refused"), "{text}");
        assert!(!text.contains(&elsewhere), "{text}");
    }

    // A token that has ended before its time is replaced, once.
    let ended = SystemClock.now().timestamp() - 60;
    let ended = token_until("https://storage.azure.com", ended);
    let storage = scene.storage(&scene.account(Given(ended, good)));
    let before = scene.seen.schemes.lock().unwrap().len();
    storage.load(&key("a")).await.unwrap();
    storage.parked(1).await.unwrap();
    assert_eq!(scene.seen.schemes.lock().unwrap().len() - before, 4);

    let storage = scene.storage(&scene.account(Refuses));
    let storage: &dyn Storage = &storage;
    let error = storage.load(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error.to_string().contains("no identity is assigned"),
        "{error}"
    );
}

/// An identity that may read passed for one that may work here; its first run then failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_read_is_told_the_role_that_is_missing() {
    let scene = Scene::new();
    let now = SystemClock.now().timestamp();
    let [tables, blobs, both] = READERS;
    for (who, missing) in [
        ("somebody", &[] as &[&str]),
        (tables, &["Storage Table Data Contributor"]),
        (blobs, &["Storage Blob Data Owner"]),
        (
            both,
            &["Storage Table Data Contributor", "Storage Blob Data Owner"],
        ),
    ] {
        let token = token_of(who, "https://storage.azure.com", now + 600);
        let storage = scene.storage(&scene.account(Given(token.clone(), token)));
        let mut bad = Vec::new();
        check::storage(&storage, &mut |finding| {
            if finding.found == Found::Bad {
                bad.push(finding.text);
            }
        })
        .await;
        assert_eq!(bad.len(), missing.len(), "{who}: {bad:?}");
        for (text, role) in bad.iter().zip(missing) {
            assert!(text.contains(&format!("give it `{role}`")), "{who}: {text}");
        }
    }
    let life = std::time::Duration::from_hours(1);
    for (who, may) in [("somebody", true), (QUEUE_READER, false)] {
        let token = token_of(who, "https://storage.azure.com", now + 600);
        let storage = scene.storage(&scene.account(Given(token.clone(), token)));
        let queue = storage.queue("lanes").unwrap();
        assert_eq!(queue.length().await, Ok(0), "{who}");
        match queue.put("lane", life).await {
            Ok(()) => assert!(may, "{who}"),
            Err(error) => {
                assert!(!may && error.kind() == Kind::Config, "{who}: {error}");
                let role = "give it `Storage Queue Data Contributor`";
                assert!(error.to_string().contains(role), "{who}: {error}");
            }
        }
    }
}
