//! Settings → concrete parts: identities, vault, storage, sink.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use secrecy::ExposeSecret;

use super::{Tables, scale_out::PullQueue};
use crate::{
    config::{
        self, DefenderSettings, IdentitySettings, SecretSource, Settings, SinkSettings,
        StorageSettings,
    },
    core::mapping::columns,
    embedded::EmbeddedFile,
    error::{Error, Result},
    io::{
        expiry::Expiring,
        password::Password,
        token::{
            Certificate, Credential, Federation, Platform, Proof, Registration, SharedTokens,
            TokenCache,
        },
        wire::Wire,
    },
    secret::{self, SharedSecrets, key_vault::KeyVault},
    sink::{
        SharedSink,
        logs_ingestion::{LogsIngestion, Places, Target},
        workspace::Workspace,
    },
    storage::{
        SharedStorage,
        azure::{self, AccountSettings, AzureStorage},
        sqlite::SqliteStorage,
    },
};

/// Builds parts over one transport and one clock.
pub(super) struct Builder<'a> {
    settings: &'a Settings,
    wire: Wire,
    /// The vaults by their URLs: connections that name the same one share what was read from it.
    vaults: RefCell<HashMap<String, SharedSecrets>>,
    services: SharedTokens,
    /// The identity that app registrations of connections trust.
    identity: Option<SharedTokens>,
    certificate: Option<Expiring>,
    file: Option<Arc<EmbeddedFile>>,
    /// Made with the storage, whose account it is in.
    pub(super) pull_queue: Option<PullQueue>,
}

impl<'a> Builder<'a> {
    /// Opens no connection and asks nobody; a certificate is read from its file.
    pub(super) fn new(settings: &'a Settings, wire: Wire) -> Result<Self> {
        let registration = registration(&settings.identity)?;
        let certificate = registration.as_ref().and_then(expiring);
        let client_id = settings.identity.client_id.as_deref();
        let credential = Credential::choose(
            registration,
            client_id,
            platform(&settings.identity).as_ref(),
        );
        let services: SharedTokens = TokenCache::new(credential, wire.clone());
        let identity = identity(settings, &wire);
        Ok(Self {
            settings,
            wire,
            vaults: RefCell::default(),
            identity,
            services,
            certificate,
            file: None,
            pull_queue: None,
        })
    }

    /// The secret of a setting, wherever it is kept.
    pub(super) fn password(&self, source: &SecretSource) -> Password {
        match source {
            SecretSource::Given(password) => password.clone().into(),
            SecretSource::Vault { url, name, setting } => {
                secret::password(&self.vault(url), name, setting)
            }
        }
    }

    fn vault(&self, url: &str) -> SharedSecrets {
        let mut vaults = self.vaults.borrow_mut();
        let vault = vaults.entry(url.to_owned()).or_insert_with(|| {
            Arc::new(KeyVault::new(
                url,
                Arc::clone(&self.services),
                self.wire.clone(),
            ))
        });
        Arc::clone(vault)
    }

    /// The tokens of a Defender connection: its app registration or identity, else those that rows
    /// are pushed with.
    pub(super) fn defender(
        &self,
        settings: &DefenderSettings,
    ) -> Result<(SharedTokens, Arc<[Expiring]>)> {
        let mut expiring = Vec::new();
        let proof = match (&settings.client_secret, &settings.client_certificate) {
            _ if let Some(federated) = &settings.federated => {
                let tokens = self.identity.clone().ok_or_else(|| {
                    Error::config(
                        "`DEFENDER_CLIENT_FEDERATED` needs a managed identity, which there is in \
                         Azure only: set a secret or a certificate here",
                    )
                })?;
                let audience = federated.audience.clone();
                Some(Proof::Federated(Federation { tokens, audience }))
            }
            (Some(source), _) => {
                let password = self.password(source);
                expiring.extend(self.kept(source, &password));
                Some(Proof::Secret(password))
            }
            (None, Some(path)) => Some(Proof::Certificate(Certificate::read(path)?)),
            (None, None) => None,
        };
        let own = &self.settings.identity;
        let app = settings.client_id.clone().zip(proof);
        let registration = match app {
            Some((client_id, proof)) => Some(Registration {
                authority: own.authority_host.clone(),
                tenant_id: settings.tenant_id.clone(),
                client_id,
                proof,
            }),
            // Who pushes rows reads Defender as well, in the tenant that is read.
            None if settings.client_id.is_none() => registration(own)?.map(|app| Registration {
                tenant_id: settings.tenant_id.clone(),
                ..app
            }),
            None => None,
        };
        expiring.extend(registration.as_ref().and_then(self::expiring));
        expiring.extend(self.certificate.clone());
        let platform = platform(own);
        let client_id = settings.client_id.as_ref().or(own.client_id.as_ref());
        let client_id = client_id.map(String::as_str);
        let credential = match Credential::choose(registration, client_id, platform.as_ref()) {
            Credential::AzureCli { .. } => Credential::AzureCli {
                tenant: Some(settings.tenant_id.clone()),
            },
            other => other,
        };
        let tokens = TokenCache::new(credential, self.wire.clone());
        Ok((tokens, expiring.into()))
    }

    /// What ends one day of all that a connection with this password signs in with.
    pub(super) fn expiring(&self, source: &SecretSource, password: &Password) -> Arc<[Expiring]> {
        let kept = self.kept(source, password);
        kept.into_iter().chain(self.certificate.clone()).collect()
    }

    /// A secret that a vault keeps, which knows when it ends. One of a connection's own vault is told from
    /// the others by the vault.
    fn kept(&self, source: &SecretSource, password: &Password) -> Option<Expiring> {
        let SecretSource::Vault { url, name, .. } = source else {
            return None;
        };
        let name = if self.settings.key_vault.as_ref() == Some(url) {
            format!("secret `{name}`")
        } else {
            format!("secret `{name}` of {}", self.vault(url).described())
        };
        Some(Expiring::password(name, password.clone()))
    }

    /// Where state is kept.
    pub(super) fn storage(&mut self) -> Result<SharedStorage> {
        match &self.settings.storage {
            StorageSettings::Embedded => Ok(Arc::new(SqliteStorage::new(self.file()?)?)),
            StorageSettings::Azure(storage) => {
                let storage = self.azure_storage(storage)?;
                if self.settings.run.scale_out {
                    self.pull_queue = Some(PullQueue::of(&storage)?);
                }
                Ok(Arc::new(storage))
            }
        }
    }

    /// Where rows go; `routed` are the tables that `ROUTES` adds.
    pub(super) fn sink(&mut self, routed: Tables) -> Result<SharedSink> {
        match &self.settings.sink {
            SinkSettings::Embedded => match self.settings.storage {
                StorageSettings::Embedded => {
                    Ok(Arc::new(Workspace::with_tables(self.file()?, routed)?))
                }
                // A cursor must not outlive the rows behind it.
                StorageSettings::Azure(_) => Err(Error::config(
                    "`SINK=embedded` keeps rows in a file, and `STORAGE` keeps cursors in Azure: set \
                     `STORAGE=embedded` as well, or `SINK=logs-ingestion`",
                )),
            },
            SinkSettings::LogsIngestion { .. } => Ok(Arc::new(LogsIngestion::new(
                places(self.settings),
                Arc::clone(&self.services),
                self.wire.clone(),
            ))),
        }
    }

    fn file(&mut self) -> Result<Arc<EmbeddedFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = EmbeddedFile::open(&self.settings.data)?;
        Ok(Arc::clone(self.file.insert(file)))
    }

    /// The storage account that state is kept in, if it is kept in one.
    pub(super) fn own_account(&self) -> Result<Option<AzureStorage>> {
        match &self.settings.storage {
            StorageSettings::Embedded => Ok(None),
            StorageSettings::Azure(storage) => self.azure_storage(storage).map(Some),
        }
    }

    fn azure_storage(&self, storage: &config::AzureStorage) -> Result<AzureStorage> {
        let settings = azure::StorageSettings {
            setting: None,
            connection_string: storage
                .connection_string
                .as_ref()
                .map(ExposeSecret::expose_secret),
            account_name: storage.account_name.as_deref(),
            table_service_uri: storage.table_uri.as_deref(),
            blob_service_uri: storage.blob_uri.as_deref(),
            queue_service_uri: storage.queue_uri.as_deref(),
            client_id: storage.client_id.as_deref(),
        };
        self.azure_account(&settings)?.ok_or_else(|| {
            Error::config(
                "`STORAGE=azure` needs `AzureWebJobsStorage`, or `AzureWebJobsStorage__accountName`",
            )
        })
    }

    /// The storage account that these settings name, if they name one.
    pub(super) fn azure_account(
        &self,
        settings: &azure::StorageSettings<'_>,
    ) -> Result<Option<AzureStorage>> {
        let Some(account) = AccountSettings::parse(settings)? else {
            return Ok(None);
        };
        let platform = platform(&self.settings.identity);
        let account = account.sign_in(|client_id| {
            let credential = Credential::choose(None, client_id, platform.as_ref());
            Ok(TokenCache::new(credential, self.wire.clone()))
        })?;
        Ok(Some(AzureStorage::new(account, self.wire.clone())))
    }
}

fn platform(identity: &IdentitySettings) -> Option<Platform> {
    let (endpoint, header) = identity.endpoint.clone().zip(identity.header.clone())?;
    Some(Platform { endpoint, header })
}

/// The tokens of the identity that is the proof of apps: the platform is asked once for all of them.
fn identity(settings: &Settings, wire: &Wire) -> Option<SharedTokens> {
    let platform = platform(&settings.identity)?;
    let mut federated = settings
        .connections
        .iter()
        .filter_map(|one| match &one.source {
            config::Source::Defender(defender) => defender.federated.as_ref(),
            config::Source::Eset(_) => None,
        });
    let credential = Credential::Managed {
        client_id: Some(federated.next()?.client_id.clone()),
        platform,
    };
    Some(TokenCache::new(credential, wire.clone()))
}

fn registration(identity: &IdentitySettings) -> Result<Option<Registration>> {
    let proof = match (&identity.client_secret, &identity.client_certificate) {
        (Some(secret), _) => Proof::Secret(secret.clone().into()),
        (None, Some(path)) => Proof::Certificate(Certificate::read(path)?),
        (None, None) => return Ok(None),
    };
    let app = identity.tenant_id.clone().zip(identity.client_id.clone());
    Ok(app.map(|(tenant_id, client_id)| Registration {
        authority: identity.authority_host.clone(),
        tenant_id,
        client_id,
        proof,
    }))
}

fn expiring(registration: &Registration) -> Option<Expiring> {
    match &registration.proof {
        Proof::Secret(_) | Proof::Federated(_) => None,
        Proof::Certificate(certificate) => {
            let name = format!("certificate of app `{}`", registration.client_id);
            Some(Expiring::at(name, certificate.ends()))
        }
    }
}

/// Which rule and stream takes the rows of each table.
fn places(settings: &Settings) -> Places {
    let SinkSettings::LogsIngestion {
        endpoint,
        scope,
        dcr_immutable_id,
        stream,
        stream_incidents,
    } = &settings.sink
    else {
        return Places::default();
    };
    let target = |route: Option<&config::Route>, stream: &str| {
        let own = |own: fn(&config::Route) -> Option<&String>, else_: &String| {
            route.and_then(own).unwrap_or(else_).clone()
        };
        Target {
            endpoint: own(|route| route.endpoint.as_ref(), endpoint),
            dcr: own(|route| route.dcr.as_ref(), dcr_immutable_id),
            stream: stream.to_owned(),
        }
    };
    let shared = [
        (columns::DETECTIONS.name.to_owned(), target(None, stream)),
        (
            columns::INCIDENTS.name.to_owned(),
            target(None, stream_incidents),
        ),
    ];
    let routed = settings
        .routes
        .iter()
        .map(|route| (route.table.clone(), target(Some(route), &route.dcr_stream)));
    let tables = shared.into_iter().chain(routed).collect();
    Places {
        scope: scope.clone(),
        tables,
    }
}
