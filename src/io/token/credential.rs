//! Who we are to Azure: an app registration, a managed identity, or whoever is logged in to the CLI.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, Uri};
use secrecy::SecretString;

use super::{SharedTokens, certificate::Certificate};
use crate::{error::Attempt, io::password::Password};

/// How long a token may take, repeats included: a dead endpoint must not eat the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Azure CLI starts a Python first, and a laptop has no run that it could eat.
const PATIENCE_WITH_CLI: Duration = Duration::from_secs(30);

/// A token is replaced this long before it expires: as long as the Azure SDKs do it.
pub(super) const SKEW: TimeDelta = TimeDelta::minutes(5);

/// How a token is got.
#[derive(Debug, Clone)]
pub enum Credential {
    /// As an app registration.
    Registration(Registration),
    /// As a managed identity of this app.
    Managed {
        /// The client id of a user-assigned identity; none for the system's.
        client_id: Option<String>,
        /// Where the platform gives out its tokens.
        platform: Platform,
    },
    /// As whoever is logged in to the Azure CLI.
    AzureCli {
        /// The tenant, when it is not the login's own.
        tenant: Option<String>,
    },
}

/// An app registration of an Entra tenant.
#[derive(Debug, Clone)]
pub struct Registration {
    /// `https://login.microsoftonline.com`, or another cloud's. It must be `https`.
    pub authority: String,
    /// The tenant's id or domain.
    pub tenant_id: String,
    /// The registration's application (client) id.
    pub client_id: String,
    /// What proves it.
    pub proof: Proof,
}

/// What proves that we are an app registration.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A client secret.
    Secret(Password),
    /// A certificate with its key.
    Certificate(Certificate),
    /// A managed identity that the app trusts.
    Federated(Federation),
}

/// A managed identity whose token is the assertion of an app registration
/// (`learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity`).
#[derive(Clone)]
pub struct Federation {
    /// Tokens of the identity.
    pub tokens: SharedTokens,
    /// Whom they are for: `api://AzureADTokenExchange`, or another cloud's.
    pub audience: String,
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Federation")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Where App Service gives out the tokens of managed identities
/// (`learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference`).
#[derive(Debug, Clone)]
pub struct Platform {
    /// `IDENTITY_ENDPOINT`.
    pub endpoint: String,
    /// `IDENTITY_HEADER`: shows that we run inside the app.
    pub header: SecretString,
}

impl Credential {
    /// The first that there is: app registration, user-assigned identity, system identity, Azure
    /// CLI login. Without a platform there is no managed identity.
    pub fn choose(
        registration: Option<Registration>,
        user_assigned: Option<&str>,
        platform: Option<&Platform>,
    ) -> Self {
        match (registration, platform) {
            (Some(registration), _) => Self::Registration(registration),
            (None, Some(platform)) => Self::Managed {
                client_id: user_assigned.map(str::to_owned),
                platform: platform.clone(),
            },
            (None, None) => Self::AzureCli { tenant: None },
        }
    }

    /// Its name, for people.
    pub fn described(&self) -> String {
        match self {
            Self::Registration(Registration {
                client_id, proof, ..
            }) => match proof {
                Proof::Secret(_) => format!("app registration `{client_id}` with its secret"),
                Proof::Certificate(_) => {
                    format!("app registration `{client_id}` with its certificate")
                }
                Proof::Federated(_) => {
                    format!("app registration `{client_id}` with its federated credential")
                }
            },
            Self::Managed {
                client_id: Some(client_id),
                ..
            } => format!("user-assigned identity `{client_id}`"),
            Self::Managed { .. } => "system-assigned identity".to_owned(),
            Self::AzureCli { .. } => "Azure CLI login".to_owned(),
        }
    }

    /// The request for a token, where one is sent.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Registration(app) => Some(app.attempt()),
            Self::Managed { platform, .. } => Some(platform.attempt()),
            Self::AzureCli { .. } => None,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::AzureCli { .. } => PATIENCE_WITH_CLI,
            Self::Registration(_) | Self::Managed { .. } => PATIENCE,
        }
    }
}

impl Registration {
    /// The request for a token.
    pub(super) fn attempt(&self) -> Attempt {
        Attempt::new(
            Method::POST,
            format!("/{}/oauth2/v2.0/token", self.tenant_id),
        )
    }
}

impl Platform {
    /// The request for a token.
    pub(super) fn attempt(&self) -> Attempt {
        let url = self.endpoint.parse::<Uri>();
        let path = url.as_ref().map_or("/", Uri::path);
        Attempt::new(Method::GET, path)
    }
}

/// A token with its end.
pub(super) struct GrantedToken {
    pub(super) token: SecretString,
    /// It is replaced from then on.
    pub(super) renew: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

impl GrantedToken {
    /// A token that is replaced shortly before its end.
    pub(super) fn until(token: SecretString, until: DateTime<Utc>) -> Self {
        Self {
            token,
            renew: until - SKEW,
            until,
        }
    }
}
