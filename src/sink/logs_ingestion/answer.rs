//! What an answer of the Logs Ingestion API means.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::{Places, Target};
use crate::{core::protocol::retry, error::Error, sink::PushError};

/// An answer, as far as it matters.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<String>,
    pub(super) code: Option<String>,
}

impl Seen {
    fn described(&self) -> String {
        let status = self.status.as_u16();
        match &self.code {
            Some(code) => format!("logs ingestion answered {status} ({code})"),
            None => format!("logs ingestion answered {status}"),
        }
    }
}

/// The table (`learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview`).
///
/// | status | meaning |
/// |---|---|
/// | 204 | the rows are safe |
/// | 400 | a row is refused, or all of them |
/// | 401 | a new token is refused, too |
/// | 403 404 | the role or the rule is missing |
/// | 413 | too large |
/// | 408 425 429 5xx | later |
/// | other 2xx, 3xx | somebody else answers |
pub(super) fn meaning(
    seen: &Seen,
    target: &Target,
    places: &Places,
    now: DateTime<Utc>,
) -> Result<(), PushError> {
    let what = seen.described();
    let Target { dcr, stream, .. } = target;
    let config = |fix: String| Err(Error::config(format!("{what}: {fix}")).into());
    match seen.status.as_u16() {
        204 => Ok(()),
        400 => Err(PushError::Refused(what)),
        413 => Err(PushError::TooLarge(what)),
        401 => config(format!(
            "it refuses even a new access token: does `LOGS_INGESTION_SCOPE` (`{}`) belong to the \
             endpoint's cloud, and is the identity of the rule's tenant?",
            places.scope
        )),
        403 => config(format!(
            "give the identity the role `Monitoring Metrics Publisher` on the data collection rule \
             `{dcr}`; it may take 30 minutes after deployment"
        )),
        404 => config(format!(
            "there is no rule `{dcr}`, it has no stream `{stream}`, or it belongs to another \
             endpoint: compare `DCR_IMMUTABLE_ID`, `DCR_STREAM`, `DCR_STREAM_INCIDENTS`, `ROUTES` \
             and `LOGS_INGESTION_ENDPOINT` with the rule's JSON view"
        )),
        408 | 425 | 429 | 500.. => {
            let after = seen.retry_after.as_deref();
            let after = after.and_then(|value| retry::retry_after(value, now));
            Err(PushError::Later(Error::transient(what).asking_for(after)))
        }
        200..400 => config(
            "not what the service answers: does a proxy stand in between, or does \
             `LOGS_INGESTION_ENDPOINT` name something else?"
                .to_owned(),
        ),
        _ => Err(Error::contract(format!(
            "{what}: not as documented: does a proxy or a gateway answer in the service's place? if \
             not, update this program"
        ))
        .into()),
    }
}

/// The error code in a body; nothing else of it is kept.
pub(super) fn code_in(body: Option<Bytes>) -> Option<String> {
    #[derive(Deserialize)]
    struct RefusalBody {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        code: String,
    }
    let body: RefusalBody = serde_json::from_slice(&body?).ok()?;
    Some(body.error.code)
}

/// True for a word that can only be a code.
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_word_and_nothing_that_a_row_could_hold() {
        let code = |body: &'static str| code_in(Some(body.into())).filter(|code| is_code(code));
        assert_eq!(
            code(r#"{"error":{"code":"InvalidPayload","message":"canary"}}"#).as_deref(),
            Some("InvalidPayload")
        );
        assert_eq!(code(r#"{"error":{"code":"a canary"}}"#), None);
        assert_eq!(code("canary"), None);
    }
}
