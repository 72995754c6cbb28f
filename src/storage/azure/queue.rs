//! A queue of Queue Storage: as much of its protocol as a plan needs. Taking messages out is the Functions
//! host's part (learn.microsoft.com/rest/api/storageservices/queue-service-rest-api).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{
    account::Account,
    answer::Answer,
    auth::Kind,
    service::{Call, Service},
};
use crate::{
    error::{Error, Result},
    io::wire::Wire,
};

const XML: &str = "application/xml";

/// The most messages of a look
/// (learn.microsoft.com/rest/api/storageservices/peek-messages).
pub const MOST_PEEKED: usize = 32;

/// The most bytes of a message: 64 KiB of base64
/// (learn.microsoft.com/rest/api/storageservices/put-message).
const MAX_TEXT: usize = 48 << 10;

/// A message at the head of a queue, as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedMessage {
    /// When it was put in.
    pub at: DateTime<Utc>,
    /// How often it was taken.
    pub taken: u32,
    /// Its text; `None` where it is no text.
    pub text: Option<String>,
}

/// A queue.
#[derive(Clone)]
pub struct Queue {
    service: Service,
    name: String,
}

impl Queue {
    /// The queue `name` of an account. It is created when something is first put in.
    pub(super) fn new(account: &Account, name: &str, wire: &Wire) -> Result<Self> {
        if account.queue_url.is_none() {
            return Err(Error::config(
                "`SCALE_OUT=queue` needs the address of the account's queues: set \
                 `AzureWebJobsStorage__queueServiceUri`, or `AzureWebJobsStorage__accountName`",
            ));
        }
        Ok(Self {
            service: Service::new(Kind::Queue, account, wire),
            name: name.to_owned(),
        })
    }

    /// This queue, each question asked no longer than this.
    #[must_use]
    pub fn within(&self, budget: Duration) -> Self {
        Self {
            service: self.service.within(budget),
            name: self.name.clone(),
        }
    }

    /// Puts a message in, which vanishes by itself after `life`. The text goes as base64, which is what a
    /// queue trigger reads by default. One whose answer is lost may be in twice.
    pub async fn put(&self, text: &str, life: Duration) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::config(format!(
                "{}: a message of {} bytes is too long, {MAX_TEXT} is the most: give the connections \
                 that share an account shorter names, or fewer of them one account",
                self.place(),
                text.len()
            )));
        }
        let text = STANDARD.encode(text);
        let body =
            format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>").into_bytes();
        let call = Call::new(Method::POST, self.messages())
            .query("messagettl", life.as_secs().to_string())
            .body(XML, body);
        let mut answer = self.service.ask(&call).await?;
        if answer.is_missing("QueueNotFound") {
            self.create().await?;
            answer = self.service.ask(&call).await?;
        }
        self.done(&answer)
    }

    async fn create(&self) -> Result<()> {
        let call = Call::new(Method::PUT, format!("/{}", self.name));
        let answer = self.service.ask(&call).await?;
        // One that bears other metadata is there as well.
        if answer.code == "QueueAlreadyExists" {
            return Ok(());
        }
        self.done(&answer)
    }

    /// How many messages are in it, those that are being worked on among them: never less than there
    /// are, but perhaps more (learn.microsoft.com/rest/api/storageservices/get-queue-metadata).
    pub async fn length(&self) -> Result<u64> {
        let call = Call::new(Method::GET, format!("/{}", self.name)).query("comp", "metadata");
        let answer = self.service.ask(&call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(0);
        }
        self.done(&answer)?;
        let length = answer.header("x-ms-approximate-messages-count");
        length
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| {
                Error::contract(format!(
                    "{}: its metadata have no count of messages",
                    self.place()
                ))
            })
    }

    /// The messages at its head that nobody works on, [`MOST_PEEKED`] at most. They stay where they are.
    pub async fn peek(&self) -> Result<Vec<PeekedMessage>> {
        let call = Call::new(Method::GET, self.messages())
            .query("peekonly", "true")
            .query("numofmessages", MOST_PEEKED.to_string());
        let answer = self.service.ask(&call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        self.done(&answer)?;
        messages(&answer.body)
            .map_err(|what| Error::contract(format!("{}: a look at it {what}", self.place())))
    }

    /// Account and queue, for error texts.
    pub fn place(&self) -> String {
        format!("{}, queue `{}`", self.service.place(), self.name)
    }

    fn messages(&self) -> String {
        format!("/{}/messages", self.name)
    }

    fn done(&self, answer: &Answer) -> Result<()> {
        if answer.status.is_success() {
            return Ok(());
        }
        let (place, what) = (self.place(), answer.described());
        Err(Error::contract(format!("{place} {what}")))
    }
}

/// The messages of a look.
fn messages(body: &[u8]) -> std::result::Result<Vec<PeekedMessage>, String> {
    #[derive(Deserialize)]
    struct MessageList {
        #[serde(rename = "QueueMessage", default)]
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "InsertionTime")]
        at: String,
        #[serde(rename = "DequeueCount", default)]
        taken: u32,
        #[serde(rename = "MessageText", default)]
        text: String,
    }
    let text = std::str::from_utf8(body).map_err(|_| "is no text".to_owned())?;
    // The service begins with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let list: MessageList = quick_xml::de::from_str(text).map_err(|_| "is no XML".to_owned())?;
    let peeked = list.messages.into_iter().map(|message| {
        let at = DateTime::parse_from_rfc2822(&message.at);
        Ok(PeekedMessage {
            at: at.map_err(|_| "has no time".to_owned())?.to_utc(),
            taken: message.taken,
            text: decoded(message.text),
        })
    });
    peeked.collect()
}

/// A text that somebody else put in may lie there as it is.
fn decoded(text: String) -> Option<String> {
    match STANDARD.decode(&text) {
        Ok(bytes) => String::from_utf8(bytes).ok(),
        Err(_) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_look_are_read_whoever_has_put_them_in() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList>\
            <QueueMessage><MessageId>5f0c</MessageId>\
            <InsertionTime>Sun, 29 Nov 2026 05:20:00 GMT</InsertionTime>\
            <ExpirationTime>Sun, 29 Nov 2026 06:20:00 GMT</ExpirationTime>\
            <DequeueCount>2</DequeueCount><MessageText>eyJhIjoxfQ==</MessageText></QueueMessage>\
            <QueueMessage><MessageId>6f0c</MessageId>\
            <InsertionTime>Sun, 29 Nov 2026 05:21:00 GMT</InsertionTime>\
            <DequeueCount>0</DequeueCount><MessageText>by &amp; hand</MessageText></QueueMessage>\
            <QueueMessage><MessageId>7f0c</MessageId>\
            <InsertionTime>Sun, 29 Nov 2026 05:22:00 GMT</InsertionTime>\
            <DequeueCount>0</DequeueCount><MessageText>/////w==</MessageText></QueueMessage>\
            </QueueMessagesList>";
        let peeked = messages(body.as_bytes()).unwrap();
        let seen: Vec<_> = peeked
            .iter()
            .map(|one| (one.taken, one.text.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [(2, Some("{\"a\":1}")), (0, Some("by & hand")), (0, None)]
        );
        assert_eq!(peeked[0].at.to_rfc3339(), "2026-11-29T05:20:00+00:00");
    }

    #[test]
    fn an_empty_queue_has_no_messages_and_a_page_of_a_proxy_is_none() {
        let empty = "<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList />";
        assert_eq!(messages(empty.as_bytes()).unwrap(), []);
        assert!(messages(b"<html>").is_err());
        let timeless = "<QueueMessagesList><QueueMessage><InsertionTime>now</InsertionTime>\
            </QueueMessage></QueueMessagesList>";
        assert_eq!(messages(timeless.as_bytes()).unwrap_err(), "has no time");
    }
}
