//! Why there is no token, and who can change that.

use azure_core::error::ErrorKind;

use crate::{error::Error, io::http::TransportError};

/// Entra's codes and what to do about them
/// (`learn.microsoft.com/entra/identity-platform/reference-error-codes`).
const CODES: &[(u32, &str)] = &[
    (
        7_000_215,
        "the client secret is wrong: put its value, not its id, into the setting",
    ),
    (
        7_000_222,
        "the client secret has expired: make a new one under `Certificates & secrets`",
    ),
    (
        7_000_216,
        "Entra expects a client secret or an assertion: set `AZURE_CLIENT_SECRET` or `AZURE_CLIENT_CERTIFICATE_PATH`",
    ),
    (
        7_000_112,
        "the app registration is disabled: enable it in Entra",
    ),
    (
        7_000_229,
        "the app has no service principal in this tenant: grant admin consent there",
    ),
    (
        700_016,
        "the tenant has no such app: check the client id and that the app is registered, or consented to, in this tenant",
    ),
    (
        700_027,
        "the certificate is not one of the app's: upload it under `Certificates & secrets`",
    ),
    (
        700_211,
        "no federated credential of the app has the issuer of the identity's token: it is \
         `https://login.microsoftonline.com/TENANT_ID/v2.0` of the tenant that app and identity are in",
    ),
    (
        700_212,
        "no federated credential of the app has the audience of the identity's token",
    ),
    (
        700_213,
        "no federated credential of the app has the subject of the identity's token: it is the \
         identity's object (principal) id, not its client id",
    ),
    (
        700_024,
        "the assertion is outside its time: check this machine's clock",
    ),
    (90_002, "there is no such tenant: check the tenant id"),
    (900_023, "the tenant id is neither an id nor a domain"),
    (
        50_034,
        "the tenant has no such account: check the tenant id and the client id",
    ),
    (
        500_011,
        "the tenant does not know the service that the scope names: it has no such product, or \
         the scope is of another cloud",
    ),
    (
        70_011,
        "the scope is not valid: it must look like `https://monitor.azure.com/.default`",
    ),
    (
        1_002_012,
        "the scope is not valid: it must end with `/.default`",
    ),
    (
        53_003,
        "a conditional access policy forbids it: exempt the app from it",
    ),
    (
        530_035,
        "the sign-in is blocked by security defaults of the tenant",
    ),
];

/// Codes that say the same whatever the token is for.
const OF_APP: [u32; 12] = [
    7_000_215, 7_000_222, 7_000_216, 7_000_112, 700_016, 700_027, 700_211, 700_212, 700_213,
    90_002, 900_023, 50_034,
];

/// Codes of an app that does not trust the identity whose token it is shown.
const OF_TRUST: [u32; 3] = [700_211, 700_212, 700_213];

/// Codes that pass.
const PASSING: [u32; 3] = [90_033, 50_196, 90_055];

/// True when no scope would get a token: the error names a code of the app, its proof or its tenant.
pub(super) fn is_of_app(error: &Error) -> bool {
    code_in(&error.to_string()).is_some_and(|code| OF_APP.contains(&code))
}

/// True when the app does not trust the identity.
pub(super) fn is_of_trust(error: &Error) -> bool {
    code_in(&error.to_string()).is_some_and(|code| OF_TRUST.contains(&code))
}

/// The error that one of Entra's codes is; none for a text without a code.
pub(super) fn of_words(text: &str) -> Option<Error> {
    let code = code_in(text)?;
    let fix = CODES.iter().find(|(known, _)| *known == code);
    Some(match fix {
        _ if PASSING.contains(&code) => {
            Error::transient(format!("Entra asks for patience (AADSTS{code})"))
        }
        Some((_, fix)) => Error::config(format!("{fix} (AADSTS{code})")),
        None => Error::config(format!(
            "refused with AADSTS{code}: \
             `https://login.microsoftonline.com/error?code={code}` says why"
        )),
    })
}

/// The failure of the network among the causes, when it names host and fix.
pub(crate) fn clear(error: &azure_core::Error) -> Option<&TransportError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let transport = error.downcast_ref::<TransportError>();
        if let Some(clear) = transport.filter(|error| error.names_fix()) {
            return Some(clear);
        }
        cause = error.source();
    }
    None
}

/// What is known of a failure of an Azure crate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailureSigns {
    /// The answer's status, when there was one that could be read.
    pub(crate) status: Option<u16>,
    /// Entra's code.
    pub(crate) code: Option<u32>,
    /// There was no answer.
    pub(crate) unanswered: bool,
}

/// Looks through an error and its causes. The texts stay out: they can quote an answer.
pub(crate) fn seen(error: &azure_core::Error) -> FailureSigns {
    let mut seen = FailureSigns::default();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(azure) = error.downcast_ref::<azure_core::Error>() {
            match azure.kind() {
                ErrorKind::HttpResponse {
                    status, error_code, ..
                } => {
                    seen.status = seen.status.or(Some((*status).into()));
                    let first = error_code
                        .as_deref()
                        .and_then(|code| code.split(',').next());
                    seen.code = seen
                        .code
                        .or_else(|| first.and_then(|code| code.parse().ok()))
                        .or_else(|| code_in(&azure.to_string()));
                }
                ErrorKind::Io | ErrorKind::Connection => seen.unanswered = true,
                _ => {}
            }
        }
        cause = error.source();
    }
    seen
}

/// The number in `AADSTS7000215: Invalid client secret`.
fn code_in(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("AADSTS")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// The kinds of an error and of its causes, for the log: `Credential: HttpResponse(…)`.
pub(crate) fn kinds(error: &azure_core::Error) -> String {
    let mut kinds = Vec::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        kinds.push(match error.downcast_ref::<azure_core::Error>() {
            Some(azure) => azure.kind().to_string(),
            // Our own texts hold neither URLs nor bodies; those of others may.
            None if error.is::<TransportError>() || error.is::<Error>() => error.to_string(),
            None => "…".to_owned(),
        });
        cause = error.source();
    }
    kinds.join(": ")
}

/// Entra gave no token to an app registration.
pub(super) fn of_entra(tenant: &str, error: &azure_core::Error) -> Error {
    tracing::debug!(kinds = kinds(error), "no token from Entra");
    if let Some(clear) = clear(error) {
        return Error::from(clear.clone()).context("Entra can't be reached");
    }
    let FailureSigns {
        status,
        code,
        unanswered,
    } = seen(error);
    match (code, status) {
        (Some(code), _) if PASSING.contains(&code) => {
            Error::transient(format!("Entra asks for patience (AADSTS{code})"))
        }
        (_, Some(status @ (408 | 429 | 500..))) => {
            Error::transient(format!("Entra answered {status}"))
        }
        (Some(code), _) => match CODES.iter().find(|(known, _)| *known == code) {
            Some((_, fix)) => Error::config(format!("tenant `{tenant}`: {fix} (AADSTS{code})")),
            None => Error::config(format!(
                "tenant `{tenant}`: refused with AADSTS{code}: \
                 `https://login.microsoftonline.com/error?code={code}` says why"
            )),
        },
        (None, Some(status)) => Error::config(format!(
            "tenant `{tenant}`: Entra answered {status}: check tenant, client id and secret"
        )),
        (None, None) if unanswered => Error::transient(
            "Entra can't be reached; if this stays so, let firewall and proxy admit \
             `login.microsoftonline.com`, or what `AZURE_AUTHORITY_HOST` names",
        ),
        (None, None) => Error::transient(
            "the answer is not one of Entra's: does a proxy answer in its place, or does \
             `AZURE_AUTHORITY_HOST` name something else?",
        ),
    }
}

/// The Azure CLI gave no token. Its own texts are good, and meant for people.
pub(super) fn of_cli(error: &azure_core::Error) -> Error {
    let text = error.to_string();
    let text = text
        .trim_start_matches("AzureCliCredential authentication failed.")
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("it did not say why");
    Error::config(format!(
        "no token ({text}): run `az login`; in Azure, give the app a managed identity; or set \
         `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_in_the_description() {
        assert_eq!(
            code_in("AADSTS7000215: Invalid client secret."),
            Some(7_000_215)
        );
        assert_eq!(code_in("… AADSTS90002"), Some(90_002));
        assert_eq!(code_in("AADSTS: nothing"), None);
        assert_eq!(code_in("Invalid client secret."), None);
    }

    #[test]
    fn each_code_is_explained_once() {
        let mut codes: Vec<u32> = CODES.iter().map(|(code, _)| *code).collect();
        codes.extend(PASSING);
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
        assert!(OF_APP.iter().all(|code| codes.contains(code)));
    }
}
