//! Key Vault, and passwords that change in it.

use std::{
    io::Write,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use secrecy::ExposeSecret;
use sentinel_connector::{
    app::{App, Function, RunOptions},
    check::{self, Finding},
    config::{Environment, Mode, Settings},
    core::protocol::source_kind::SourceKind,
    error::Kind,
    io::{
        clock::{Clock, SharedClock, SystemClock},
        http::{Network, Request, Response, SharedTransport, Transport, TransportError},
        retry::Limits,
        token::{Credential, Proof, Rejected, TokenCache, TokenSource},
        wire::Wire,
    },
    pipeline::Outcome,
    secret::{SecretStore, SharedSecrets, key_vault::KeyVault, password},
    simulator::{
        Options, Simulator, Target, VaultSecret,
        tls::{Authority, serve},
    },
    source::{
        SourceConnection,
        eset::{Account, Connection, LookUps},
    },
};

use crate::identity::{Azure, SCOPE};

const NAME: &str = "eset-password";

fn vault_at(azure: &Azure, url: &str, transport: SharedTransport) -> Arc<KeyVault> {
    Arc::new(KeyVault::new(url, azure.tokens(), azure.wire_to(transport)))
}

fn vault(azure: &Azure) -> Arc<KeyVault> {
    vault_at(azure, "https://contoso.vault.azure.net", azure.transport())
}

fn kept(value: &str) -> VaultSecret {
    VaultSecret {
        value: value.to_owned(),
        expires: None,
    }
}

#[tokio::test]
async fn a_secret_is_read_after_a_challenge_and_held_for_an_hour() {
    let azure = Azure::new();
    let vault = vault(&azure);
    let secret = vault.secret(NAME).await.unwrap().unwrap();
    assert_eq!(
        secret.value.expose_secret(),
        azure.simulator.options().password
    );
    let half_a_year = azure.clock.now() + chrono::TimeDelta::days(180);
    assert_eq!(secret.expires, Some(half_a_year));
    assert_eq!(
        azure.calls(Target::KeyVault),
        2,
        "a challenge, then the secret"
    );

    azure.simulator.keep_secret(NAME, Some(kept("new")));
    azure.clock.advance(Duration::from_mins(59));
    let held = vault.secret(NAME).await.unwrap().unwrap();
    assert_eq!(held.value.expose_secret(), secret.value.expose_secret());
    assert_eq!(azure.calls(Target::KeyVault), 2);
    azure.clock.advance(Duration::from_mins(1));
    assert_eq!(
        vault
            .secret(NAME)
            .await
            .unwrap()
            .unwrap()
            .value
            .expose_secret(),
        "new"
    );

    azure.simulator.keep_secret(NAME, Some(kept("newer")));
    let read = vault.refresh(NAME).await.unwrap().unwrap();
    assert_eq!((read.value.expose_secret(), read.expires), ("newer", None));
    assert_eq!(
        vault
            .secret(NAME)
            .await
            .unwrap()
            .unwrap()
            .value
            .expose_secret(),
        "newer"
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let azure = Azure::new();
    let vault = vault(&azure);
    assert!(vault.secret("other").await.unwrap().is_none());
    let store: SharedSecrets = Arc::<KeyVault>::clone(&vault);
    let missing = password(&store, "other", "ESET_PASSWORD")
        .current()
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), Kind::Config);
    let missing = missing.to_string();
    for part in [
        "`ESET_PASSWORD` is not set",
        "`contoso.vault.azure.net`",
        "`other`",
    ] {
        assert!(missing.contains(part), "{missing}");
    }
    azure.inject("key-vault:403@2");
    let refused = vault.secret(NAME).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Config);
    let refused = refused.to_string();
    for part in [
        NAME,
        "contoso.vault.azure.net",
        "`Key Vault Secrets User`",
        "30 minutes",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[tokio::test]
async fn a_vault_that_is_away_stops_only_those_who_know_nothing_yet() {
    for fault in ["503", "429-retry-after=6", "rubbish", "cut"] {
        let azure = Azure::new();
        let vault = vault(&azure);
        azure.inject(&format!("key-vault:{fault}"));
        vault.secret(NAME).await.unwrap().unwrap();
        azure.inject(&format!("key-vault:{fault}x*"));
        azure.clock.advance(Duration::from_hours(2));
        let began = azure.clock.now();
        assert!(vault.secret(NAME).await.unwrap().is_some(), "{fault}");
        assert!((azure.clock.now() - began).num_seconds() <= 20, "{fault}");
        let error = vault.refresh(NAME).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient, "{fault}: {error}");
    }
    let azure = Azure::new();
    azure.inject("key-vault:never");
    let error = vault(&azure).secret(NAME).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
}

#[tokio::test]
async fn the_end_of_a_secret_that_was_read_follows_the_vault() {
    let azure = Azure::new();
    let store: SharedSecrets = vault(&azure);
    let password = password(&store, NAME, "ESET_PASSWORD");
    assert_eq!(password.expires().await, None, "nobody has needed it yet");
    assert_eq!(azure.calls(Target::KeyVault), 0);
    password.current().await.unwrap();
    let first = password.expires().await;
    assert_eq!(first, azure.simulator.options().secrets[NAME].expires);
    let asked = azure.calls(Target::KeyVault);

    // Prolonged in the vault: known within the hour, though nobody needs the password again.
    let prolonged = first.map(|end| end + chrono::TimeDelta::days(90));
    let value = azure.simulator.options().password.clone();
    let secret = VaultSecret {
        value,
        expires: prolonged,
    };
    azure.simulator.keep_secret(NAME, Some(secret));
    assert_eq!(password.expires().await, first);
    assert_eq!(azure.calls(Target::KeyVault), asked);
    azure.clock.advance(Duration::from_hours(1));
    assert_eq!(password.expires().await, prolonged);

    // What was known is known still when the vault is away or refuses.
    for fault in ["key-vault:503x*", "key-vault:403x*"] {
        azure.clock.advance(Duration::from_hours(1));
        azure.inject(fault);
        assert_eq!(password.expires().await, prolonged, "{fault}");
        azure.simulator.heal();
    }

    // A vault that is away is left alone for a while.
    azure.clock.advance(Duration::from_hours(1));
    azure.inject("key-vault:503x*");
    password.expires().await;
    let asked = azure.calls(Target::KeyVault);
    azure.clock.advance(Duration::from_mins(9));
    password.expires().await;
    assert_eq!(azure.calls(Target::KeyVault), asked);
    azure.clock.advance(Duration::from_mins(2));
    password.expires().await;
    assert!(azure.calls(Target::KeyVault) > asked);
}

#[tokio::test]
async fn a_refused_token_is_replaced_before_the_vault_is_given_up() {
    let azure = Azure::new();
    azure.inject("key-vault:401@2");
    assert!(vault(&azure).secret(NAME).await.unwrap().is_some());
    assert_eq!(azure.calls(Target::EntraToken), 2);
    let azure = Azure::new();
    azure.inject("key-vault:401x*@2");
    let error = vault(&azure).secret(NAME).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
}

#[tokio::test]
async fn why_there_is_no_token_is_told() {
    let azure = Azure::with(|options| options.client_secret = "changed".to_owned());
    let mut registration = azure.registration();
    registration.proof = Proof::Secret("wrong".to_owned().into());
    let tokens = azure.identity(Credential::Registration(registration));
    let vault = KeyVault::new("https://v.vault.azure.net", tokens, azure.wire());
    let error = vault.secret(NAME).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("AADSTS7000215"), "{error}");
}

#[tokio::test]
async fn a_challenge_for_another_service_gets_no_token() {
    let challenge = "Bearer authorization=\"https://login.example/t\", \
                     resource=\"https://vault.azure.net\"";
    let header = [("www-authenticate", challenge)];
    let router = Router::new().route(
        "/secrets/{name}/",
        get(move || async move { (StatusCode::UNAUTHORIZED, header) }),
    );
    let azure = Azure::new();
    let vault = vault_at(&azure, "https://vault.attacker.example", Arc::new(router));
    let error = vault.secret(NAME).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.to_string().contains("KEY_VAULT_URL"), "{error}");
    assert_eq!(azure.calls(Target::EntraToken), 0);
}

#[tokio::test]
async fn a_login_reads_its_password_again_when_it_is_refused() {
    let azure = Azure::new();
    let right = azure.simulator.options().password.clone();
    azure.simulator.keep_secret(NAME, Some(kept("old")));
    let store: SharedSecrets = vault(&azure);
    let account = Account {
        url_template: "https://sim/eset/eu/{domain}".to_owned(),
        login: azure.simulator.options().login.clone(),
        password: password(&store, NAME, "ESET_PASSWORD"),
        calls_per_second: NonZeroU32::new(9).unwrap(),
        look_ups: LookUps::default(),
    };
    let connection = Connection::new(account, azure.wire());
    let limits = Limits::until(azure.clock.now() + chrono::TimeDelta::hours(9));
    let error = connection.log_in(&[], &limits).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(
        azure.calls(Target::EsetToken),
        1,
        "the same password is not tried twice"
    );

    azure.simulator.keep_secret(NAME, Some(kept(&right)));
    connection.log_in(&[], &limits).await.unwrap();
    assert_eq!(
        azure.calls(Target::EsetToken),
        2,
        "a password that is refused is not sent again in the run"
    );
}

#[tokio::test]
async fn a_client_secret_is_read_again_when_it_is_refused() {
    let azure = Azure::new();
    let right = azure.simulator.options().client_secret.clone();
    azure
        .simulator
        .keep_secret("defender-client-secret", Some(kept("old")));
    let store: SharedSecrets = vault(&azure);
    let secret = password(&store, "defender-client-secret", "DEFENDER_CLIENT_SECRET");
    let mut registration = azure.registration();
    registration.proof = Proof::Secret(secret);
    let identity = azure.identity(Credential::Registration(registration));
    assert!(identity.token(SCOPE, None, &azure.limits()).await.is_err());
    azure
        .simulator
        .keep_secret("defender-client-secret", Some(kept(&right)));
    let token = identity.token(SCOPE, None, &azure.limits()).await.unwrap();
    identity
        .token(SCOPE, Some(Rejected::Refused(&token)), &azure.limits())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_whole_works_over_https() {
    let clock = Arc::new(SystemClock);
    let now = clock.now();
    let simulator = Simulator::new(Options::new(1, now), clock);
    let authority = Authority::generate(now).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = serve(simulator.router(), address, &authority)
        .await
        .unwrap();
    let settings: std::collections::BTreeMap<String, String> =
        simulator.settings(&server.base_url).into_iter().collect();
    let network = Network::loopback(authority.pem().as_bytes()).unwrap();
    let wire = Wire::new(Arc::new(network), Arc::new(SystemClock));
    let platform = sentinel_connector::io::token::Platform {
        endpoint: settings["IDENTITY_ENDPOINT"].clone(),
        header: settings["IDENTITY_HEADER"].clone().into(),
    };
    let registration = sentinel_connector::io::token::Registration {
        authority: settings["AZURE_AUTHORITY_HOST"].clone(),
        tenant_id: settings["AZURE_TENANT_ID"].clone(),
        client_id: settings["AZURE_CLIENT_ID"].clone(),
        proof: Proof::Secret(settings["AZURE_CLIENT_SECRET"].clone().into()),
    };
    for credential in [
        Credential::choose(Some(registration), None, None),
        Credential::choose(None, None, Some(&platform)),
    ] {
        let tokens = TokenCache::new(credential, wire.clone());
        let vault = KeyVault::new(&settings["KEY_VAULT_URL"], tokens, wire.clone());
        let secret = vault.secret(NAME).await.unwrap().unwrap();
        assert_eq!(secret.value.expose_secret(), simulator.options().password);
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_that_is_secret_is_logged_even_at_trace() {
    let log = Log::default();
    let writer = log.clone();
    let to = |writer: Log| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish()
    };
    // With a single subscriber, tests on other threads could switch events off for all.
    let _second = tracing::Dispatch::new(to(Log::default()));
    let guard = tracing::subscriber::set_default(to(writer));
    let azure = Azure::new();
    let mut secrets = Vec::new();
    for credential in [
        Credential::Registration(azure.registration()),
        Credential::choose(None, None, Some(&azure.platform())),
    ] {
        for fault in [
            "entra.token:400",
            "identity:500",
            "key-vault:500",
            "key-vault:403@3",
        ] {
            azure.inject(fault);
        }
        let tokens = azure.identity(credential);
        for _ in 0..3 {
            let tokens = Arc::<TokenCache>::clone(&tokens);
            let vault = KeyVault::new("https://v.vault.azure.net", tokens, azure.wire());
            if let Ok(Some(secret)) = vault.secret(NAME).await {
                secrets.push(secret.value);
            }
        }
        secrets.push(
            tokens
                .token("https://vault.azure.net/.default", None, &azure.limits())
                .await
                .unwrap(),
        );
    }
    drop(guard);
    assert!(secrets.len() > 3);
    let options = azure.simulator.options();
    secrets.push(options.client_secret.clone().into());
    secrets.push(options.identity_header.clone().into());
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("typespec_client_core"),
        "the Azure crates log, too"
    );
    for secret in &secrets {
        assert!(!log.contains(secret.expose_secret()));
    }
}

/// Notes at which vault each secret is asked for.
struct Vaults {
    simulator: Router,
    asked: Mutex<std::collections::BTreeSet<String>>,
}

#[async_trait::async_trait]
impl Transport for Vaults {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let path = request.uri().path();
        if path.starts_with("/secrets/") {
            let host = request.uri().host().unwrap_or_default();
            let secret = path.trim_end_matches('/').to_owned();
            self.asked.lock().unwrap().insert(format!("{host}{secret}"));
        }
        self.simulator.send(request).await
    }
}

#[tokio::test]
async fn each_connection_has_its_secret_from_the_vault_that_it_names_and_check_names_both() {
    let azure = Azure::with(|options| {
        let kept = options.secrets["eset-password"].clone();
        options.secrets.insert("own-eset-password".to_owned(), kept);
    });
    let folder = tempfile::tempdir().unwrap();
    let login = azure.simulator.options().login.clone();
    let entry = |name: &str, more: &str| {
        let login = format!(r#""ESET_LOGIN":"{login}""#);
        format!(r#"{{"name":"{name}","source":"eset","settings":{{{login}{more}}}}}"#)
    };
    let list = [
        entry("own", ""),
        entry("a", r#","KEY_VAULT_URL":"https://a.vault.azure.net""#),
        entry("b", r#","KEY_VAULT_URL":"https://b.vault.azure.net""#),
    ];
    let list = format!("[{}]", list.join(","));
    let mut settings = azure.simulator.settings("https://sim");
    settings.retain(|(name, _)| name.starts_with("ESET_") || name.starts_with("AZURE_"));
    settings.retain(|(name, _)| name != "ESET_PASSWORD");
    let data = folder.path().to_str().unwrap();
    for (name, value) in [
        ("KEY_VAULT_URL", "https://home.vault.azure.net"),
        ("CONNECTOR_DATA", data),
        ("ESET_STREAMS", "incidents"),
        ("CONNECTIONS", &list),
    ] {
        settings.push((name.to_owned(), value.to_owned()));
    }
    let environment: Environment = settings.into_iter().collect();
    let settings = Settings::load(&environment, Mode::Local).unwrap();
    let vaults = Arc::new(Vaults {
        simulator: azure.simulator.router(),
        asked: Mutex::default(),
    });
    let clock: SharedClock = Arc::new(azure.clock.clone());
    let transport: SharedTransport = Arc::clone(&vaults) as _;
    let app = App::with_transport(&settings, &clock, &transport).unwrap();
    let function = Function::Pull(SourceKind::Eset);
    for report in app.run(function, &RunOptions::default()).await {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
    }
    let asked: Vec<String> = vaults.asked.lock().unwrap().iter().cloned().collect();
    assert_eq!(
        asked,
        [
            "a.vault.azure.net/secrets/eset-password",
            "b.vault.azure.net/secrets/eset-password",
            "home.vault.azure.net/secrets/own-eset-password",
        ]
    );
    let mut told = Vec::new();
    let mut tell = |finding: Finding| told.push(format!("{} {}", finding.what, finding.text));
    check::settings(&environment, Mode::Local, &mut tell);
    check::dependencies(&app, &mut tell).await;
    for line in [
        "own: secret `own-eset-password` of key vault `home.vault.azure.net`",
        "a: secret `eset-password` of key vault `a.vault.azure.net`",
        "b: secret `eset-password` of key vault `b.vault.azure.net`",
        "secret `own-eset-password` lasts 179 days",
        "secret `eset-password` of key vault `a.vault.azure.net` lasts 179 days",
        "secret `eset-password` of key vault `b.vault.azure.net` lasts 179 days",
    ] {
        assert_eq!(
            told.iter().filter(|told| *told == line).count(),
            1,
            "{line}: {told:#?}"
        );
    }
    let password = &azure.simulator.options().password;
    assert!(!told.concat().contains(password), "{told:#?}");
}
