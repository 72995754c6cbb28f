//! The Functions host's listener of a queue, as far as its rules show from outside
//! (`docs/contracts/azure.md#queue-triggers` tells them, with their sources): so many messages at a time,
//! a message that failed is seen again later, one that failed too often is moved to the poison queue.

use std::sync::Mutex;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, stream::FuturesUnordered};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use sentinel_connector::{
    app::scale_out::{POISON_QUEUE, PULL_QUEUE},
    io::http::{Request, SharedTransport},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{azurite, tenant::Served};

/// The version of signatures: the account's key is in none of what is sent.
const VERSION: &str = "2019-12-12";

/// What `host.json` says to the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueOptions {
    pub(super) batch_size: usize,
    pub(super) new_batch_size: usize,
    pub(super) max_dequeue_count: u64,
    /// How long a message that failed is not seen. `host.json` has minutes here.
    pub(super) visibility_timeout: u64,
}

impl QueueOptions {
    /// Those of `host.json`, but for the wait after a failure.
    pub(super) fn shipped() -> Self {
        let host: Value = serde_json::from_str(include_str!("../../../host.json")).unwrap();
        let queues = &host["extensions"]["queues"];
        let number = |name: &str| usize::try_from(queues[name].as_u64().unwrap()).unwrap();
        assert_eq!(queues["messageEncoding"], "base64");
        Self {
            batch_size: number("batchSize"),
            new_batch_size: number("newBatchSize"),
            max_dequeue_count: queues["maxDequeueCount"].as_u64().unwrap(),
            visibility_timeout: 0,
        }
    }
}

/// A message that was taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Taken {
    message_id: String,
    pop_receipt: String,
    dequeue_count: u64,
    message_text: String,
}

impl Taken {
    pub(super) fn text(&self) -> String {
        String::from_utf8(STANDARD.decode(&self.message_text).unwrap()).unwrap()
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "QueueMessage", default)]
    messages: Vec<Taken>,
}

/// How a try ended.
#[derive(Debug, Clone)]
pub(super) struct Try {
    /// Which worker had it.
    pub(super) worker: usize,
    /// The message's text.
    pub(super) text: String,
    pub(super) dequeue_count: u64,
    /// What the worker answered; `None` when it died.
    pub(super) answer: Option<(u16, Value)>,
}

/// The queue service of an account, spoken to with a signature of the account's.
pub(super) struct Queues {
    url: String,
    signature: String,
    network: SharedTransport,
    pub(super) options: QueueOptions,
    pub(super) tries: Mutex<Vec<Try>>,
}

impl Queues {
    pub(super) fn of(connection_string: &str) -> Self {
        let value = |name: &str| {
            let mut parts = connection_string.split(';');
            let part = parts.find_map(|part| part.strip_prefix(&format!("{name}=")));
            part.unwrap().to_owned()
        };
        let (account, expiry) = (value("AccountName"), "2099-01-01T00:00:00Z");
        let key = STANDARD.decode(value("AccountKey")).unwrap();
        let text = format!("{account}\nrwdlacup\nq\nsco\n\n{expiry}\n\nhttps,http\n{VERSION}\n");
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let quoted = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let signature = format!(
            "sv={VERSION}&ss=q&srt=sco&sp=rwdlacup&se={}&spr=https,http&sig={}",
            quoted(expiry),
            quoted(&STANDARD.encode(signed))
        );
        Self {
            url: value("QueueEndpoint"),
            signature,
            network: azurite::network(),
            options: QueueOptions::shipped(),
            tries: Mutex::default(),
        }
    }

    /// Asks again, as the host's client does, where nothing came of it on the way.
    async fn ask(&self, method: &str, path: &str, body: String) -> (u16, String) {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}/{path}{mark}{}", self.url, self.signature);
        for _ in 0..4 {
            let mut request = Request::new(body.clone().into());
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = url.parse().unwrap();
            let kind = "application/xml".parse().unwrap();
            request.headers_mut().insert("content-type", kind);
            let Ok(answer) = self.network.send(request).await else {
                continue;
            };
            let status = answer.status.as_u16();
            if status < 500 {
                let body = answer.whole_body().await.unwrap();
                return (status, String::from_utf8(body.to_vec()).unwrap());
            }
        }
        panic!("{method} {path}: no answer");
    }

    async fn done(&self, method: &str, path: &str, body: String) {
        let (status, text) = self.ask(method, path, body).await;
        // A message that was deleted before the answer was lost.
        let is_gone = method == "DELETE" && status == 404;
        let well = (200..300).contains(&status) || is_gone;
        assert!(well, "{method} {path}: {status} {text}");
    }

    /// Puts a text in as somebody else would.
    pub(super) async fn put(&self, queue: &str, text: &str) {
        let text = STANDARD.encode(text);
        let body = format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>");
        let path = format!("{queue}/messages");
        let (status, _) = self.ask("POST", &path, body.clone()).await;
        if status == 404 {
            self.done("PUT", queue, String::new()).await;
            self.done("POST", &path, body).await;
        }
    }

    /// Takes everything out, whoever has it.
    pub(super) async fn clear(&self, queue: &str) {
        self.done("DELETE", &format!("{queue}/messages"), String::new())
            .await;
    }

    /// Messages that nobody sees for ten minutes now.
    pub(super) async fn take(&self, queue: &str, most: usize) -> Vec<Taken> {
        // More are refused.
        let most = most.min(32);
        let path = format!("{queue}/messages?numofmessages={most}&visibilitytimeout=600");
        let (status, text) = self.ask("GET", &path, String::new()).await;
        if status == 404 {
            return Vec::new();
        }
        assert_eq!(status, 200, "{text}");
        let text = text.trim_start_matches('\u{feff}');
        quick_xml::de::from_str::<List>(text).unwrap().messages
    }

    pub(super) async fn delete(&self, queue: &str, taken: &Taken) {
        let receipt = utf8_percent_encode(&taken.pop_receipt, NON_ALPHANUMERIC);
        let path = format!("{queue}/messages/{}?popreceipt={receipt}", taken.message_id);
        self.done("DELETE", &path, String::new()).await;
    }

    async fn release(&self, queue: &str, taken: &Taken) {
        let receipt = utf8_percent_encode(&taken.pop_receipt, NON_ALPHANUMERIC);
        let path = format!(
            "{queue}/messages/{}?popreceipt={receipt}&visibilitytimeout={}",
            taken.message_id, self.options.visibility_timeout
        );
        let body = format!(
            "<QueueMessage><MessageText>{}</MessageText></QueueMessage>",
            taken.message_text
        );
        self.done("PUT", &path, body).await;
    }

    async fn give_up(&self, taken: &Taken) {
        self.put(POISON_QUEUE, &taken.text()).await;
        self.delete(PULL_QUEUE, taken).await;
    }

    /// Hands messages to a worker until none is to be had, or the worker has died.
    pub(super) async fn listen(&self, number: usize, worker: &Served) {
        let mut under_way = FuturesUnordered::new();
        let mut died = false;
        loop {
            if !died && under_way.len() <= self.options.new_batch_size {
                for taken in self.take(PULL_QUEUE, self.options.batch_size).await {
                    under_way.push(self.try_one(number, worker, taken));
                }
            }
            match under_way.next().await {
                Some(lives) => died |= !lives,
                None => return,
            }
        }
    }

    /// False when the worker died meanwhile.
    async fn try_one(&self, number: usize, worker: &Served, taken: Taken) -> bool {
        if taken.dequeue_count > self.options.max_dequeue_count {
            self.give_up(&taken).await;
            return true;
        }
        let head = "POST /PullWorker HTTP/1.1\r\n";
        let answer = worker.try_exchange(head, &envelope(&taken)).await;
        let answer = answer.ok().and_then(|answer| {
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            let body = answer.split_once("\r\n\r\n")?.1;
            Some((status, serde_json::from_str(body).ok()?))
        });
        let lives = answer.is_some();
        let well = answer.as_ref().is_some_and(|(status, _)| *status == 200);
        self.tries.lock().unwrap().push(Try {
            worker: number,
            text: taken.text(),
            dequeue_count: taken.dequeue_count,
            answer,
        });
        if well {
            self.delete(PULL_QUEUE, &taken).await;
        } else if taken.dequeue_count >= self.options.max_dequeue_count {
            self.give_up(&taken).await;
        } else {
            self.release(PULL_QUEUE, &taken).await;
        }
        lives
    }
}

/// A message as the host posts it: text goes through its serialiser twice, and the members of an object
/// stand beside what the trigger says.
fn envelope(taken: &Taken) -> String {
    let twice = |value: &Value| Value::String(value.to_string());
    let text = Value::String(taken.text());
    let mut metadata = json!({
        "DequeueCount": taken.dequeue_count.to_string(),
        "Id": twice(&json!(taken.message_id)),
        "PopReceipt": twice(&json!(taken.pop_receipt)),
        "InsertionTime": "2026-11-21T05:20:00+00:00",
        "sys": { "MethodName": "PullWorker", "UtcNow": "2026-11-21T05:20:01Z", "RandGuid": "x" },
    });
    if let Ok(Value::Object(members)) = serde_json::from_str(&taken.text()) {
        for (name, value) in members.iter().filter(|(_, value)| !value.is_array()) {
            metadata[name] = twice(value);
        }
    }
    json!({ "Data": { "lane": twice(&text) }, "Metadata": metadata }).to_string()
}
