//! Which storage account it is and how to sign in, from the settings that every Function App has.

use http::Uri;

use super::auth::{Credential, SharedKey};
use crate::{
    error::{Error, Result},
    io::token::SharedTokens,
};

/// The account and key of the emulator, the same for everybody
/// (learn.microsoft.com/azure/storage/common/storage-use-azurite).
const EMULATOR: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const EMULATOR_TABLES: &str = "http://127.0.0.1:10002/devstoreaccount1";
const EMULATOR_BLOBS: &str = "http://127.0.0.1:10000/devstoreaccount1";
const EMULATOR_QUEUES: &str = "http://127.0.0.1:10001/devstoreaccount1";

/// The suffix of the public cloud; a connection string names another cloud's.
const PUBLIC_SUFFIX: &str = "core.windows.net";

/// The setting that every Function App has.
const SETTING: &str = "AzureWebJobsStorage";

/// The settings that name a storage account, as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct StorageSettings<'a> {
    /// What the settings begin with, for error texts; `AzureWebJobsStorage` when `None`.
    pub setting: Option<&'a str>,
    /// `AzureWebJobsStorage`: a connection string.
    pub connection_string: Option<&'a str>,
    /// `AzureWebJobsStorage__accountName`.
    pub account_name: Option<&'a str>,
    /// `AzureWebJobsStorage__tableServiceUri`, for another cloud or a private endpoint.
    pub table_service_uri: Option<&'a str>,
    /// `AzureWebJobsStorage__blobServiceUri`, likewise.
    pub blob_service_uri: Option<&'a str>,
    /// `AzureWebJobsStorage__queueServiceUri`, likewise.
    pub queue_service_uri: Option<&'a str>,
    /// `AzureWebJobsStorage__clientId`: a user-assigned identity.
    pub client_id: Option<&'a str>,
}

/// How to sign in to the account.
#[derive(Debug, Clone)]
pub enum Login {
    /// With the key of the connection string.
    SharedKey(SharedKey),
    /// As an identity: the user-assigned one with this client id, else whatever there is.
    Identity {
        /// `AzureWebJobsStorage__clientId`.
        client_id: Option<String>,
    },
}

/// A storage account, checked but not signed in to.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Its name.
    pub name: String,
    /// The address of its Table service, without a final `/`.
    pub table_url: String,
    /// The address of its Blob service, without a final `/`.
    pub blob_url: String,
    /// The address of its Queue service, without a final `/`, where that is known.
    pub queue_url: Option<String>,
    /// How to sign in.
    pub login: Login,
}

/// A storage account, with what signs requests to it.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The address of its Table service, without a final `/`.
    pub table_url: String,
    /// The address of its Blob service, without a final `/`.
    pub blob_url: String,
    /// The address of its Queue service, without a final `/`, where that is known.
    pub queue_url: Option<String>,
    /// What signs requests.
    pub credential: Credential,
}

impl AccountSettings {
    /// The account that the settings name, or `None` when they name none.
    ///
    /// # Errors
    /// `Config`, which names the setting and never quotes its value.
    pub fn parse(settings: &StorageSettings<'_>) -> Result<Option<Self>> {
        let set = |value: Option<&'_ str>| value.is_some_and(|value| !value.trim().is_empty());
        // The Functions host goes by a connection string first, too.
        match settings.connection_string.map(str::trim) {
            Some(text) if !text.is_empty() => {
                connection_string(text, settings.setting.unwrap_or(SETTING)).map(Some)
            }
            _ if set(settings.account_name) || set(settings.table_service_uri) => {
                identity(settings).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Signs in: `tokens` is asked for a source of access tokens, by the client id, when there is no
    /// key.
    pub fn sign_in(
        self,
        tokens: impl FnOnce(Option<&str>) -> Result<SharedTokens>,
    ) -> Result<Account> {
        Ok(Account {
            name: self.name,
            table_url: self.table_url,
            blob_url: self.blob_url,
            queue_url: self.queue_url,
            credential: match self.login {
                Login::SharedKey(key) => Credential::SharedKey(key),
                Login::Identity { client_id } => Credential::Tokens(tokens(client_id.as_deref())?),
            },
        })
    }
}

fn identity(settings: &StorageSettings<'_>) -> Result<AccountSettings> {
    let setting = settings.setting.unwrap_or(SETTING);
    let text = |value: Option<&str>| {
        let value = value.map(str::trim).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    };
    let place =
        |service: &str, setting: &str, uri: Option<String>, name: Option<&str>| match (uri, name) {
            (Some(uri), _) => checked_url(setting, &uri),
            (None, Some(name)) => Ok(format!("https://{name}.{service}.{PUBLIC_SUFFIX}")),
            (None, None) => Err(Error::config(format!("set `{setting}` as well"))),
        };
    let given = text(settings.account_name);
    if let Some(name) = &given {
        check_name(&format!("{setting}__accountName"), name)?;
    }
    let name = given.as_deref();
    let tables = &format!("{setting}__tableServiceUri");
    let table_url = place("table", tables, text(settings.table_service_uri), name)?;
    let blobs = &format!("{setting}__blobServiceUri");
    let blob_url = place("blob", blobs, text(settings.blob_service_uri), name)?;
    let queues = &format!("{setting}__queueServiceUri");
    let queue_url = match (text(settings.queue_service_uri), name) {
        // Only who asks for queues needs it.
        (None, None) => None,
        (uri, name) => Some(place("queue", queues, uri, name)?),
    };
    let host = table_url.parse::<Uri>().ok();
    let host = host.as_ref().and_then(Uri::host).unwrap_or_default();
    let first = host.split('.').next().unwrap_or_default().to_owned();
    Ok(AccountSettings {
        name: given.clone().unwrap_or(first),
        table_url,
        blob_url,
        queue_url,
        login: Login::Identity {
            client_id: text(settings.client_id),
        },
    })
}

/// A connection string: `name=value` pairs, the names in any case
/// (learn.microsoft.com/azure/storage/common/storage-configure-connection-string).
fn connection_string(text: &str, setting: &str) -> Result<AccountSettings> {
    let value = |name: &str| {
        text.split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    };
    if value("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(AccountSettings {
            name: EMULATOR.to_owned(),
            table_url: EMULATOR_TABLES.to_owned(),
            blob_url: EMULATOR_BLOBS.to_owned(),
            queue_url: Some(EMULATOR_QUEUES.to_owned()),
            login: Login::SharedKey(SharedKey::new(EMULATOR_KEY)?),
        });
    }
    if value("SharedAccessSignature").is_some() {
        return Err(Error::config(format!(
            "`{setting}` holds a shared access signature, which cannot be renewed: use a connection \
             string with `AccountKey`, or `{setting}__accountName` and a managed identity"
        )));
    }
    let (Some(name), Some(key)) = (value("AccountName"), value("AccountKey")) else {
        return Err(Error::config(format!(
            "`{setting}` is no connection string with `AccountName` and `AccountKey`: copy it from \
             the storage account's access keys, or use `{setting}__accountName` and a managed \
             identity"
        )));
    };
    check_name(setting, name)?;
    let protocol = value("DefaultEndpointsProtocol").unwrap_or("https");
    let suffix = value("EndpointSuffix").unwrap_or(PUBLIC_SUFFIX);
    let place = |service: &str, endpoint: &str| match value(endpoint) {
        Some(url) => checked_url(setting, url),
        None => checked_url(setting, &format!("{protocol}://{name}.{service}.{suffix}")),
    };
    Ok(AccountSettings {
        name: name.to_owned(),
        table_url: place("table", "TableEndpoint")?,
        blob_url: place("blob", "BlobEndpoint")?,
        queue_url: Some(place("queue", "QueueEndpoint")?),
        login: Login::SharedKey(SharedKey::new(key)?),
    })
}

fn check_name(setting: &str, name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{setting}`: an account's name has lower case letters and digits only"
    )))
}

fn checked_url(setting: &str, url: &str) -> Result<String> {
    let refused = |why: &str| Err(Error::config(format!("`{setting}`: {why}")));
    let Ok(uri) = url.parse::<Uri>() else {
        return refused("an endpoint is no URL");
    };
    let local = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if local => {}
        Some("http") => return refused("an endpoint must be `https://`"),
        _ => return refused("an endpoint must begin with `https://`"),
    }
    if uri.query().is_some() {
        return refused("an endpoint has no query, nor a shared access signature");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const KEY: &str = "c2VjcmV0";

    fn parsed(text: &str) -> Result<AccountSettings> {
        let settings = StorageSettings {
            connection_string: Some(text),
            ..StorageSettings::default()
        };
        AccountSettings::parse(&settings).map(Option::unwrap)
    }

    fn places(settings: &AccountSettings) -> [&str; 4] {
        [
            &settings.name,
            &settings.table_url,
            &settings.blob_url,
            settings.queue_url.as_deref().unwrap_or_default(),
        ]
    }

    #[test]
    fn connection_strings() {
        let emulator = [EMULATOR, EMULATOR_TABLES, EMULATOR_BLOBS, EMULATOR_QUEUES];
        for (text, expected) in [
            ("UseDevelopmentStorage=true", emulator),
            ("usedevelopmentstorage=TRUE;", emulator),
            (
                "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=c2VjcmV0",
                [
                    "contoso",
                    "https://contoso.table.core.windows.net",
                    "https://contoso.blob.core.windows.net",
                    "https://contoso.queue.core.windows.net",
                ],
            ),
            (
                " accountname=contoso; accountkey=c2VjcmV0;EndpointSuffix=core.usgovcloudapi.net; ",
                [
                    "contoso",
                    "https://contoso.table.core.usgovcloudapi.net",
                    "https://contoso.blob.core.usgovcloudapi.net",
                    "https://contoso.queue.core.usgovcloudapi.net",
                ],
            ),
            (
                "AccountName=a1;AccountKey=c2VjcmV0;TableEndpoint=http://127.0.0.1:1/a1/;\
                 BlobEndpoint=http://localhost:2/a1;QueueEndpoint=http://localhost:3/a1/",
                [
                    "a1",
                    "http://127.0.0.1:1/a1",
                    "http://localhost:2/a1",
                    "http://localhost:3/a1",
                ],
            ),
        ] {
            assert_eq!(places(&parsed(text).unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_use_is_refused_without_being_quoted() {
        for (text, expected) in [
            ("nonsense-secret", "AccountKey"),
            ("AccountName=contoso", "AccountKey"),
            ("AccountName=<secret>;AccountKey=c2VjcmV0", "lower case"),
            ("AccountName=contoso;AccountKey=secret!", "base64"),
            (
                "BlobEndpoint=https://x;SharedAccessSignature=sig=secret",
                "shared access",
            ),
            (
                "AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=https://x/?sig=secret",
                "no query",
            ),
            (
                "AccountName=a;AccountKey=c2VjcmV0;DefaultEndpointsProtocol=http",
                "https",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let debug = format!("{:?}", parsed(&format!("AccountName=a;AccountKey={KEY}")));
        assert!(!debug.contains(KEY) && !debug.contains("secret"), "{debug}");
    }

    #[test]
    fn an_identity_needs_a_name_or_both_addresses() {
        let named = StorageSettings {
            connection_string: Some(" "),
            account_name: Some("contoso"),
            client_id: Some("id"),
            ..StorageSettings::default()
        };
        let parsed = AccountSettings::parse(&named).unwrap().unwrap();
        let expected = [
            "contoso",
            "https://contoso.table.core.windows.net",
            "https://contoso.blob.core.windows.net",
            "https://contoso.queue.core.windows.net",
        ];
        assert_eq!(places(&parsed), expected);
        assert!(matches!(parsed.login, Login::Identity { client_id: Some(id) } if id == "id"));

        let with_string = StorageSettings {
            connection_string: Some("UseDevelopmentStorage=true"),
            ..named
        };
        let parsed = AccountSettings::parse(&with_string).unwrap().unwrap();
        assert_eq!(parsed.name, EMULATOR);

        let addresses = StorageSettings {
            table_service_uri: Some("https://fab.table.core.windows.net/"),
            ..StorageSettings::default()
        };
        let error = AccountSettings::parse(&addresses).unwrap_err().to_string();
        assert!(error.contains("blobServiceUri"), "{error}");
        let both = StorageSettings {
            blob_service_uri: Some("https://fab.blob.core.windows.net/"),
            ..addresses
        };
        let parsed = AccountSettings::parse(&both).unwrap().unwrap();
        assert_eq!(parsed.name, "fab");
        assert_eq!(parsed.queue_url, None);
        let all = StorageSettings {
            queue_service_uri: Some("https://fab.queue.core.windows.net/"),
            ..both
        };
        let parsed = AccountSettings::parse(&all).unwrap().unwrap();
        let queues = parsed.queue_url.as_deref();
        assert_eq!(queues, Some("https://fab.queue.core.windows.net"));
        assert!(
            AccountSettings::parse(&StorageSettings::default())
                .unwrap()
                .is_none()
        );
    }
}
