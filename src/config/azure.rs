//! The settings of everything that is Azure: identity, secrets, storage.

use std::path::PathBuf;

use secrecy::SecretString;

use super::{
    reader::{Read, Reader},
    values,
};

/// Where Entra of the public cloud answers. Others: `https://login.microsoftonline.us`,
/// `https://login.chinacloudapi.cn`.
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// Who the app is to Azure. What is set decides, in the order app registration, user-assigned
/// identity, system identity, Azure CLI login.
#[derive(Debug, Clone)]
pub struct IdentitySettings {
    /// `AZURE_AUTHORITY_HOST`; by default that of the public cloud.
    pub authority_host: String,
    /// `AZURE_TENANT_ID`. Required with a secret or a certificate.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`: of the app registration, or of the user-assigned identity. Required with a
    /// secret or a certificate.
    pub client_id: Option<String>,
    /// `AZURE_CLIENT_SECRET`.
    pub client_secret: Option<SecretString>,
    /// `AZURE_CLIENT_CERTIFICATE_PATH`: PEM of a certificate and its key.
    pub client_certificate: Option<PathBuf>,
    /// `IDENTITY_ENDPOINT`, set by the platform; without it there is no managed identity.
    pub endpoint: Option<String>,
    /// `IDENTITY_HEADER`, set by the platform.
    pub header: Option<SecretString>,
}

impl IdentitySettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let authority_host = reader.or(
            "AZURE_AUTHORITY_HOST",
            AUTHORITY.to_owned(),
            values::https_url,
        );
        let tenant_id = reader.optional("AZURE_TENANT_ID", tenant);
        let client_id = reader.optional("AZURE_CLIENT_ID", client);
        let client_secret = reader.secret("AZURE_CLIENT_SECRET");
        let client_certificate = reader.optional("AZURE_CLIENT_CERTIFICATE_PATH", super::path);
        let endpoint = reader.optional("IDENTITY_ENDPOINT", values::platform_url);
        let header = reader.secret("IDENTITY_HEADER");

        let (client_secret, client_certificate) = (client_secret?, client_certificate?);
        let (tenant_id, client_id) = (tenant_id?, client_id?);
        if client_secret.is_some() && client_certificate.is_some() {
            let text = "is not used, since `AZURE_CLIENT_SECRET` is set: remove one of them";
            reader.warn("AZURE_CLIENT_CERTIFICATE_PATH", text);
        }
        if client_secret.is_some() || client_certificate.is_some() {
            let mut result = Ok(());
            for (name, value) in [
                ("AZURE_TENANT_ID", &tenant_id),
                ("AZURE_CLIENT_ID", &client_id),
            ] {
                if value.is_none() {
                    result = Err(reader.missing(name));
                }
            }
            result?;
        }
        Ok(Self {
            authority_host: authority_host?,
            tenant_id,
            client_id,
            client_secret,
            client_certificate,
            endpoint: endpoint?,
            header: header?,
        })
    }
}

/// The identity that an app registration trusts, in place of a secret.
#[derive(Debug, Clone)]
pub struct FederatedIdentity {
    /// The client id of the user-assigned identity: `AZURE_CLIENT_ID`, or, where that is an app
    /// registration, `AzureWebJobsStorage__clientId`.
    pub client_id: String,
    /// `DEFENDER_FEDERATED_AUDIENCE`, by default that of the cloud of `AZURE_AUTHORITY_HOST`.
    pub audience: String,
}

/// Whom the identity's token is for, by the host of the cloud's Entra
/// (`learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity`).
const AUDIENCES: [(&str, &str); 3] = [
    (
        "login.microsoftonline.us",
        "api://AzureADTokenExchangeUSGov",
    ),
    ("login.chinacloudapi.cn", "api://AzureADTokenExchangeChina"),
    (
        "login.partner.microsoftonline.cn",
        "api://AzureADTokenExchangeChina",
    ),
];
const AUDIENCE: &str = "api://AzureADTokenExchange";

impl FederatedIdentity {
    /// The identity, if `DEFENDER_CLIENT_FEDERATED` wants it.
    pub(super) fn read(reader: &mut Reader<'_>) -> Read<Option<Self>> {
        if !Self::wanted(reader)? {
            return Ok(None);
        }
        let is_app = ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"]
            .iter()
            .any(|name| reader.is_set(name));
        let name = if is_app {
            "AzureWebJobsStorage__clientId"
        } else {
            "AZURE_CLIENT_ID"
        };
        let client_id = match reader.optional(name, client)? {
            Some(client_id) => Ok(client_id),
            None => Err(reader.problem(
                "DEFENDER_CLIENT_FEDERATED",
                format!(
                    "needs a user-assigned identity (Entra trusts no system-assigned one): set \
                     `{name}` to its client id"
                ),
            )),
        };
        let authority = reader.or(
            "AZURE_AUTHORITY_HOST",
            AUTHORITY.to_owned(),
            values::https_url,
        );
        let audience = reader.optional("DEFENDER_FEDERATED_AUDIENCE", audience);
        let authority = authority?;
        Ok(Some(Self {
            client_id: client_id?,
            audience: audience?.unwrap_or_else(|| audience_of(&authority).to_owned()),
        }))
    }

    /// True when an identity takes the place of secret and certificate.
    pub(super) fn wanted(reader: &mut Reader<'_>) -> Read<bool> {
        reader.or("DEFENDER_CLIENT_FEDERATED", false, values::yes_or_no)
    }
}

fn audience_of(authority: &str) -> &'static str {
    let uri: Option<http::Uri> = authority.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let cloud = AUDIENCES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(host));
    cloud.map_or(AUDIENCE, |(_, audience)| audience)
}

fn audience(value: &str) -> values::Parsed<String> {
    if value.starts_with("api://") {
        return Ok(value.trim_end_matches('/').to_owned());
    }
    Err(format!("must look like `{AUDIENCE}`"))
}

/// A secret, or where it is.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// It is in the settings.
    Given(SecretString),
    /// It is in the vault of `KEY_VAULT_URL`.
    Vault {
        /// The vault.
        url: String,
        /// Its name there.
        name: String,
        /// The setting that it stands for.
        setting: String,
    },
}

impl SecretSource {
    /// The secret of the setting `setting` in a vault, of a connection when it has one of its own there.
    pub(super) fn in_vault(url: String, setting: &str, connection: Option<&str>) -> Self {
        let name = setting.to_ascii_lowercase().replace('_', "-");
        let name = match connection {
            Some(connection) => format!("{connection}-{name}"),
            None => name,
        };
        Self::Vault {
            url,
            setting: setting.to_owned(),
            name,
        }
    }
}

/// The storage account that the Functions host uses, too. Raw: the storage knows what it means.
#[derive(Debug, Clone)]
pub struct AzureStorage {
    /// `AzureWebJobsStorage`: with it, the rest is not read.
    pub connection_string: Option<SecretString>,
    /// `AzureWebJobsStorage__accountName`.
    pub account_name: Option<String>,
    /// `AzureWebJobsStorage__tableServiceUri`; by default the account's in the public cloud.
    pub table_uri: Option<String>,
    /// `AzureWebJobsStorage__blobServiceUri`; by default the account's in the public cloud.
    pub blob_uri: Option<String>,
    /// `AzureWebJobsStorage__queueServiceUri`; by default the account's in the public cloud.
    pub queue_uri: Option<String>,
    /// `AzureWebJobsStorage__clientId`: client id of a user-assigned identity.
    pub client_id: Option<String>,
}

impl AzureStorage {
    /// True when there is anything to choose it by.
    pub(super) fn wanted(reader: &Reader<'_>) -> bool {
        [
            "AzureWebJobsStorage",
            "AzureWebJobsStorage__accountName",
            "AzureWebJobsStorage__tableServiceUri",
        ]
        .iter()
        .any(|name| reader.is_set(name))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let connection_string = reader.secret("AzureWebJobsStorage");
        let account_name = reader.optional("AzureWebJobsStorage__accountName", account);
        let table_uri = reader.optional("AzureWebJobsStorage__tableServiceUri", values::url);
        let blob_uri = reader.optional("AzureWebJobsStorage__blobServiceUri", values::url);
        let queue_uri = reader.optional("AzureWebJobsStorage__queueServiceUri", values::url);
        let client_id = reader.optional("AzureWebJobsStorage__clientId", client);
        let credential = values::one_of(&[("managedidentity", ())]);
        reader.optional("AzureWebJobsStorage__credential", credential)?;
        let read = Self {
            connection_string: connection_string?,
            account_name: account_name?,
            table_uri: table_uri?,
            blob_uri: blob_uri?,
            queue_uri: queue_uri?,
            client_id: client_id?,
        };
        let both = read.table_uri.is_some() && read.blob_uri.is_some();
        if read.connection_string.is_none() && read.account_name.is_none() && !both {
            return Err(reader.missing("AzureWebJobsStorage__accountName"));
        }
        Ok(read)
    }
}

fn only(value: &str, allowed: &str, what: &str) -> values::Parsed<String> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || allowed.contains(letter);
    if value.chars().all(good) {
        return Ok(value.to_owned());
    }
    Err(format!("is not {what}"))
}

pub(super) fn tenant(value: &str) -> values::Parsed<String> {
    only(value, ".-", "the id or the domain of an Entra tenant")
}

pub(super) fn client(value: &str) -> values::Parsed<String> {
    only(
        value,
        "-",
        "a client id, such as `00000000-0000-0000-0000-000000000000`",
    )
}

fn account(value: &str) -> values::Parsed<String> {
    only(
        value,
        "",
        "the name of a storage account: letters and digits",
    )
}
