//! Who we are to Azure: each credential, its failures, and how long its tokens are held.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Output},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use azure_identity::Executor;
use secrecy::{ExposeSecret, SecretString};
use sentinel_connector::{
    error::Kind,
    io::{
        clock::{Clock, VirtualClock},
        http::SharedTransport,
        retry::Limits,
        token::{
            Certificate, Credential, Federation, Platform, Proof, Registration, Rejected,
            SharedTokens, TokenCache, TokenSource,
        },
        wire::Wire,
    },
    simulator::{Fault, FederatedCredential, Options, Simulator, Target},
};

pub(crate) const SCOPE: &str = "https://monitor.azure.com/.default";

/// A simulated Azure in virtual time.
pub(crate) struct Azure {
    pub(crate) clock: VirtualClock,
    pub(crate) simulator: Simulator,
}

impl Azure {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let clock = VirtualClock::new("2026-03-02T08:00:00Z".parse().unwrap());
        let mut options = Options::new(7, clock.now());
        change(&mut options);
        Self {
            simulator: Simulator::new(options, Arc::new(clock.clone())),
            clock,
        }
    }

    pub(crate) fn inject(&self, fault: &str) {
        self.simulator.inject(Fault::parse(fault).unwrap());
    }

    pub(crate) fn calls(&self, target: Target) -> usize {
        let calls = self.simulator.calls();
        calls
            .iter()
            .filter(|call| call.target == Some(target))
            .count()
    }

    pub(crate) fn transport(&self) -> SharedTransport {
        Arc::new(self.simulator.router())
    }

    /// Limits of a run that begins now.
    pub(crate) fn limits(&self) -> Limits {
        Limits::until(self.clock.now() + chrono::TimeDelta::minutes(4))
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire_to(self.transport())
    }

    pub(crate) fn wire_to(&self, transport: SharedTransport) -> Wire {
        Wire {
            transport,
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(|| 0.5),
        }
    }

    pub(crate) fn registration(&self) -> Registration {
        let options = self.simulator.options();
        Registration {
            authority: "https://login.example".to_owned(),
            tenant_id: options.tenant_id.clone(),
            client_id: options.client_id.clone(),
            proof: Proof::Secret(options.client_secret.clone().into()),
        }
    }

    pub(crate) fn platform(&self) -> Platform {
        Platform {
            endpoint: "http://169.254.129.2:8081/msi/token".to_owned(),
            header: self.simulator.options().identity_header.clone().into(),
        }
    }

    pub(crate) fn identity(&self, credential: Credential) -> Arc<TokenCache> {
        TokenCache::new(credential, self.wire())
    }

    /// The tokens of the app registration.
    pub(crate) fn tokens(&self) -> SharedTokens {
        self.identity(Credential::Registration(self.registration()))
    }

    fn managed(&self, client_id: Option<&str>) -> Arc<TokenCache> {
        self.identity(Credential::choose(None, client_id, Some(&self.platform())))
    }
}

fn text(token: &SecretString) -> &str {
    token.expose_secret()
}

#[test]
fn the_order_is_registration_identity_login() {
    let azure = Azure::new();
    let platform = azure.platform();
    let described =
        |registration, user, platform| Credential::choose(registration, user, platform).described();
    let registration = || Some(azure.registration());
    let app = described(registration(), Some("me"), Some(&platform));
    assert!(app.starts_with("app registration `b3a7e1c4"), "{app}");
    assert_eq!(
        described(None, Some("me"), Some(&platform)),
        "user-assigned identity `me`"
    );
    assert_eq!(
        described(None, None, Some(&platform)),
        "system-assigned identity"
    );
    assert_eq!(described(None, Some("me"), None), "Azure CLI login");
    let shown = format!(
        "{:?}",
        Credential::choose(registration(), None, Some(&platform))
    );
    assert!(!shown.contains("simulated~secret"), "{shown}");
}

#[tokio::test]
async fn a_token_is_held_for_each_scope_until_five_minutes_before_its_end() {
    let azure = Azure::new();
    let tokens = azure.tokens();
    let first = tokens.token(SCOPE, None, &azure.limits()).await.unwrap();
    azure.clock.advance(Duration::from_mins(54));
    assert_eq!(
        text(&tokens.token(SCOPE, None, &azure.limits()).await.unwrap()),
        text(&first)
    );
    assert_eq!(azure.calls(Target::EntraToken), 1);
    let other = tokens
        .token("https://vault.azure.net/.default", None, &azure.limits())
        .await
        .unwrap();
    assert_ne!(text(&other), text(&first));
    azure.clock.advance(Duration::from_mins(1));
    assert_ne!(
        text(&tokens.token(SCOPE, None, &azure.limits()).await.unwrap()),
        text(&first)
    );
    assert_eq!(azure.calls(Target::EntraToken), 3);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_hold_it() {
    let azure = Azure::new();
    let tokens = azure.tokens();
    let first = tokens.token(SCOPE, None, &azure.limits()).await.unwrap();
    let second = tokens
        .token(SCOPE, Some(Rejected::Refused(&first)), &azure.limits())
        .await
        .unwrap();
    assert_ne!(text(&second), text(&first));
    assert_eq!(
        text(
            &tokens
                .token(SCOPE, Some(Rejected::Refused(&first)), &azure.limits())
                .await
                .unwrap()
        ),
        text(&second)
    );
    assert_eq!(
        text(&tokens.token(SCOPE, None, &azure.limits()).await.unwrap()),
        text(&second)
    );
    assert_eq!(azure.calls(Target::EntraToken), 2);
}

#[tokio::test]
async fn entras_refusals_name_the_credential_and_the_fix() {
    let azure = Azure::with(|options| {
        options.client_secret_expires = Some("2026-04-01T00:00:00Z".parse().unwrap());
    });
    let refused = async |change: &dyn Fn(&mut Registration)| {
        let mut registration = azure.registration();
        change(&mut registration);
        let identity = azure.identity(Credential::Registration(registration));
        let error = identity
            .token(SCOPE, None, &azure.limits())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        let error = error.to_string();
        assert!(error.starts_with("app registration `"), "{error}");
        assert!(
            !error.contains("canary") && !error.contains("simulated~"),
            "{error}"
        );
        error
    };
    let error = refused(&|app| app.proof = Proof::Secret("canary".to_owned().into())).await;
    assert!(
        error.contains("secret is wrong") && error.contains("AADSTS7000215"),
        "{error}"
    );
    let error = refused(&|app| app.client_id = "other".to_owned()).await;
    assert!(
        error.contains("no such app") && error.contains("`other`"),
        "{error}"
    );
    let error = refused(&|app| app.tenant_id = "other".to_owned()).await;
    assert!(
        error.contains("no such tenant") && error.contains("`other`"),
        "{error}"
    );
    let error = refused(&|app| app.tenant_id = "a/b".to_owned()).await;
    assert!(error.contains("can't be used"), "{error}");
    let error = refused(&|app| app.authority = "http://login.example".to_owned()).await;
    assert!(error.contains("HTTPS"), "{error}");
    azure.clock.advance(Duration::from_hours(24 * 31));
    let error = refused(&|_| {}).await;
    assert!(
        error.contains("has expired") && error.contains("AADSTS7000222"),
        "{error}"
    );
}

#[tokio::test]
async fn an_outage_is_waited_out_for_a_few_seconds() {
    for fault in ["503", "429", "rubbish", "empty-200", "truncated", "cut"] {
        let azure = Azure::new();
        azure.inject(&format!("entra.token:{fault}x2"));
        let began = azure.clock.now();
        azure
            .tokens()
            .token(SCOPE, None, &azure.limits())
            .await
            .unwrap();
        assert!((azure.clock.now() - began).num_seconds() <= 10, "{fault}");

        azure.inject(&format!("entra.token:{fault}x*"));
        let began = azure.clock.now();
        let error = azure
            .tokens()
            .token(SCOPE, None, &azure.limits())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Transient, "{fault}: {error}");
        assert!((azure.clock.now() - began).num_seconds() <= 10, "{fault}");
        assert_eq!(azure.calls(Target::EntraToken), 6, "{fault}");
    }
    let azure = Azure::new();
    azure.inject("entra.token:never");
    let error = azure
        .tokens()
        .token(SCOPE, None, &azure.limits())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("within 10 s"), "{error}");
}

#[tokio::test]
async fn the_patience_that_is_asked_for_is_given() {
    let times = |azure: &Azure, target| -> Vec<i64> {
        let calls = azure.simulator.calls();
        let of_target = calls.iter().filter(|call| call.target == Some(target));
        of_target.map(|call| call.at.timestamp()).collect()
    };
    for (target, managed) in [(Target::EntraToken, false), (Target::Identity, true)] {
        let azure = Azure::new();
        let identity = if managed {
            azure.managed(None)
        } else {
            azure.identity(Credential::Registration(azure.registration()))
        };
        let began = azure.clock.now().timestamp();
        azure.inject(&format!("{}:429-retry-after=6", target.name()));
        identity.token(SCOPE, None, &azure.limits()).await.unwrap();
        assert_eq!(times(&azure, target), [began, began + 6]);

        // More than fits is not waited for here, and nobody asks before it is over.
        azure.inject(&format!("{}:429-retry-after=60", target.name()));
        for left in [60, 20] {
            let other = "https://vault.azure.net/.default";
            let error = identity
                .token(other, None, &azure.limits())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Transient, "{error}");
            assert_eq!(error.after(), Some(Duration::from_secs(left)), "{error}");
            azure.clock.advance(Duration::from_secs(40));
        }
        assert_eq!(times(&azure, target), [began, began + 6, began + 6]);
        identity
            .token("https://vault.azure.net/.default", None, &azure.limits())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_left_of_a_token_is_used_while_entra_is_away() {
    let azure = Azure::new();
    let tokens = azure.tokens();
    let first = tokens.token(SCOPE, None, &azure.limits()).await.unwrap();
    azure.inject("entra.token:503x*");
    azure.clock.advance(Duration::from_mins(56));
    assert_eq!(
        text(&tokens.token(SCOPE, None, &azure.limits()).await.unwrap()),
        text(&first)
    );
    azure.clock.advance(Duration::from_mins(4));
    let error = tokens
        .token(SCOPE, None, &azure.limits())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    // A refused one is of no use.
    let azure = Azure::new();
    let tokens = azure.tokens();
    let first = tokens.token(SCOPE, None, &azure.limits()).await.unwrap();
    azure.inject("entra.token:503x*");
    assert!(
        tokens
            .token(SCOPE, Some(Rejected::Refused(&first)), &azure.limits())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_certificate_proves_the_app_without_a_secret() {
    let pem = include_bytes!("../fixtures/app-certificate.crt");
    let certificate = Certificate::from_pem(pem).unwrap();
    let known = certificate.thumbprint().to_owned();
    let azure = Azure::with(|options| options.certificate = Some(known));
    let registration = |azure: &Azure| Registration {
        proof: Proof::Certificate(certificate.clone()),
        ..azure.registration()
    };
    let identity = azure.identity(Credential::Registration(registration(&azure)));
    identity.token(SCOPE, None, &azure.limits()).await.unwrap();

    let stranger = Azure::new();
    let identity = stranger.identity(Credential::Registration(registration(&stranger)));
    let error = identity
        .token(SCOPE, None, &azure.limits())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("AADSTS700027") && error.contains("upload"),
        "{error}"
    );
}

const EXCHANGE: &str = "api://AzureADTokenExchange";

impl Azure {
    /// The app that reads Defender, as an identity that it trusts.
    fn federated(&self, user: Option<&str>, audience: &str) -> Arc<TokenCache> {
        let federation = Federation {
            tokens: self.managed(user),
            audience: audience.to_owned(),
        };
        self.identity(Credential::Registration(Registration {
            client_id: self.simulator.options().defender.client_id.clone(),
            proof: Proof::Federated(federation),
            ..self.registration()
        }))
    }
}

#[tokio::test]
async fn an_app_that_trusts_the_identity_needs_no_secret() {
    let azure = Azure::with(|options| options.defender.federated = Some(options.federated()));
    let user = azure.simulator.options().user_identity.clone();
    let tokens = azure.federated(Some(&user), EXCHANGE);
    for scope in [SCOPE, "https://graph.microsoft.com/.default"] {
        tokens.token(scope, None, &azure.limits()).await.unwrap();
    }
    // The identity's token is good for a day, and asked for once.
    assert_eq!(azure.calls(Target::Identity), 1);
    assert_eq!(azure.calls(Target::EntraToken), 2);
    let asked = &azure.simulator.calls()[0].path;
    let resource = format!("resource={EXCHANGE}&client_id={user}");
    assert!(asked.contains(&resource), "{asked}");
}

#[tokio::test]
async fn an_app_that_does_not_trust_the_identity_is_told_what_it_has_to_trust() {
    let own = Azure::new().simulator.options().federated();
    let (tenant, object) = (own.issuer.clone(), own.subject.clone());
    let change = |change: &dyn Fn(&mut FederatedCredential)| {
        let mut other = own.clone();
        change(&mut other);
        Some(other)
    };
    for (federated, code) in [
        (None, "AADSTS700211"),
        (
            change(&|own| own.issuer = "https://sts.windows.net/other/".to_owned()),
            "AADSTS700211",
        ),
        // Its client id, as people first try it.
        (
            change(&|own| own.subject = Azure::new().simulator.options().user_identity.clone()),
            "AADSTS700213",
        ),
        (
            change(&|own| own.audience = "api://AzureADTokenExchangeUSGov".to_owned()),
            "AADSTS700212",
        ),
    ] {
        let azure = Azure::with(|options| options.defender.federated = federated.clone());
        let user = azure.simulator.options().user_identity.clone();
        let tokens = azure.federated(Some(&user), EXCHANGE);
        for scope in [SCOPE, "https://graph.microsoft.com/.default"] {
            let asked = tokens.token(scope, None, &azure.limits()).await;
            let error = asked.unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{error}");
            let error = error.to_string();
            assert!(error.contains(code), "{error}");
            let named = format!(
                "must have a federated credential with issuer `{tenant}`, subject `{object}` and \
                 audience `{EXCHANGE}`"
            );
            assert!(error.contains(&named), "{error}");
        }
        // Who is refused is refused for each service, and asks once a run.
        assert_eq!(azure.calls(Target::EntraToken), 1);
    }
}

#[tokio::test]
async fn without_the_identitys_token_the_identity_is_named_and_entra_is_not_asked() {
    let azure = Azure::with(|options| options.defender.federated = Some(options.federated()));
    let asked = azure.federated(Some("other"), EXCHANGE);
    let error = asked.token(SCOPE, None, &azure.limits()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    let error = error.to_string();
    for words in [
        "user-assigned identity `other`",
        "assign it",
        "DEFENDER_CLIENT_FEDERATED",
    ] {
        assert!(error.contains(words), "{error}");
    }
    azure.inject("identity:503x*");
    let user = azure.simulator.options().user_identity.clone();
    let asked = azure.federated(Some(&user), EXCHANGE);
    let error = asked.token(SCOPE, None, &azure.limits()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    // The platform is not asked again by the repeats for Entra's token.
    assert_eq!(azure.calls(Target::Identity), 1 + 3);
    assert_eq!(azure.calls(Target::EntraToken), 0);
}

#[tokio::test]
async fn managed_identities_are_asked_of_the_platform() {
    let azure = Azure::new();
    let user = azure.simulator.options().user_identity.clone();
    for client_id in [None, Some(user.as_str())] {
        let identity = azure.managed(client_id);
        let token = identity.token(SCOPE, None, &azure.limits()).await.unwrap();
        // The platform says until when: a day, of which half is used, as the Azure SDKs do.
        azure.clock.advance(Duration::from_mins(12 * 60 - 1));
        assert_eq!(
            text(&identity.token(SCOPE, None, &azure.limits()).await.unwrap()),
            text(&token)
        );
    }
    let calls = azure.simulator.calls();
    assert!(
        calls[1]
            .path
            .contains("resource=https://monitor.azure.com&client_id=0c9b"),
        "{calls:?}"
    );
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn a_managed_identitys_token_is_renewed_at_half_its_life_and_used_on_if_that_fails() {
    let azure = Azure::new();
    let identity = azure.managed(None);
    let first = identity.token(SCOPE, None, &azure.limits()).await.unwrap();
    azure.clock.advance(Duration::from_hours(12));
    let second = identity.token(SCOPE, None, &azure.limits()).await.unwrap();
    assert_ne!(text(&second), text(&first));
    assert_eq!(azure.calls(Target::Identity), 2);

    // There is half a day to wait for the platform, and it is not asked at each request.
    azure.inject("identity:503x*");
    azure.clock.advance(Duration::from_hours(12));
    for _ in 0..4 {
        assert_eq!(
            text(&identity.token(SCOPE, None, &azure.limits()).await.unwrap()),
            text(&second)
        );
    }
    assert_eq!(azure.calls(Target::Identity), 5);
    azure.clock.advance(Duration::from_hours(12));
    assert!(identity.token(SCOPE, None, &azure.limits()).await.is_err());
}

#[tokio::test]
async fn a_refused_secret_is_sent_once_for_all_streams_of_a_run() {
    let azure = Azure::new();
    let mut registration = azure.registration();
    registration.proof = Proof::Secret("wrong".to_owned().into());
    let identity = azure.identity(Credential::Registration(registration));
    let mut told = Vec::new();
    // A wrong secret is wrong for each service.
    for scope in [SCOPE, "https://vault.azure.net/.default", SCOPE] {
        told.push(
            identity
                .token(scope, None, &azure.limits())
                .await
                .unwrap_err(),
        );
    }
    assert!(told.iter().all(|error| *error == told[0]), "{told:?}");
    assert!(told[0].to_string().contains("AADSTS7000215"), "{told:?}");
    assert_eq!(azure.calls(Target::EntraToken), 1);
    // The next run asks anew.
    azure.clock.advance(Duration::from_mins(1));
    assert!(identity.token(SCOPE, None, &azure.limits()).await.is_err());
    assert_eq!(azure.calls(Target::EntraToken), 2);
}

#[tokio::test]
async fn a_token_for_new_roles_is_asked_for_once_in_a_run() {
    let azure = Azure::new();
    let tokens = azure.tokens();
    let first = tokens.token(SCOPE, None, &azure.limits()).await.unwrap();
    let run = azure.limits();
    let lacking = Rejected::LacksRole;
    let second = tokens.token(SCOPE, Some(lacking(&first)), &run).await;
    let second = second.unwrap();
    assert_ne!(text(&second), text(&first));
    // Whoever still holds the first one is given the second one, which is not replaced in this run.
    for held in [&first, &second] {
        let other = tokens.token(SCOPE, Some(lacking(held)), &run).await;
        assert_eq!(text(&other.unwrap()), text(&second));
    }
    assert_eq!(azure.calls(Target::EntraToken), 2);
    azure.clock.advance(Duration::from_mins(5));
    let next = azure.limits();
    let third = tokens.token(SCOPE, Some(lacking(&second)), &next).await;
    assert_ne!(text(&third.unwrap()), text(&second));
    assert_eq!(azure.calls(Target::EntraToken), 3);
}

#[tokio::test]
async fn a_managed_identity_that_is_not_there_names_the_fix() {
    let azure = Azure::with(|options| options.system_identity = false);
    let failed = async |identity: Arc<TokenCache>| {
        let error = identity
            .token(SCOPE, None, &azure.limits())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        error.to_string()
    };
    let error = failed(azure.managed(Some("other"))).await;
    assert!(
        error.contains("`other`") && error.contains("assign it"),
        "{error}"
    );
    let error = failed(azure.managed(None)).await;
    assert!(
        error.starts_with("system-assigned") && error.contains("switch it on"),
        "{error}"
    );
    let platform = Platform {
        header: "canary".to_owned().into(),
        ..azure.platform()
    };
    let error = failed(azure.identity(Credential::choose(None, None, Some(&platform)))).await;
    assert!(
        error.contains("IDENTITY_HEADER") && !error.contains("canary"),
        "{error}"
    );

    azure.inject("identity:503x*");
    let began = azure.clock.now();
    let error = azure
        .managed(None)
        .token(SCOPE, None, &azure.limits())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!((azure.clock.now() - began).num_seconds() <= 10);
}

/// Stands for `az`.
#[derive(Debug)]
struct Az(i32, String);

#[async_trait]
impl Executor for Az {
    async fn run(&self, _: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let command = args.last().unwrap().to_str().unwrap();
        assert!(command.contains("az account get-access-token"), "{command}");
        assert!(command.contains(SCOPE), "{command}");
        Ok(Output {
            status: ExitStatus::from_raw(self.0 << 8),
            stdout: self.1.clone().into(),
            stderr: "ERROR: Please run 'az login' to setup account.\n".into(),
        })
    }
}

#[tokio::test]
async fn on_a_laptop_the_azure_cli_is_asked() {
    let azure = Azure::new();
    let identity = |exit, stdout: String| {
        TokenCache::with_executor(
            Credential::choose(None, None, None),
            azure.wire(),
            Some(Arc::new(Az(exit, stdout))),
        )
    };
    let expiry = azure.clock.now().timestamp() + 3600;
    let json = format!(r#"{{"accessToken":"t","expires_on":{expiry},"tokenType":"Bearer"}}"#);
    let good = identity(0, json);
    assert_eq!(
        text(&good.token(SCOPE, None, &azure.limits()).await.unwrap()),
        "t"
    );
    let error = identity(1, String::new())
        .token(SCOPE, None, &azure.limits())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let error = error.to_string();
    assert!(
        error.contains("Azure CLI login") && error.contains("az login"),
        "{error}"
    );
}
