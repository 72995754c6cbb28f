//! The queues of an account, on the emulator's.

use std::time::Duration;

use sentinel_connector::{
    error::Kind,
    storage::azure::{Account, AzureStorage},
};

use crate::azurite::{Azurite, wire};

const LIFE: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_made_by_its_first_message_and_tells_length_and_head() {
    let [storage, other] = Azurite::shared().storage();
    let queue = storage.queue("lanes").unwrap();
    assert_eq!(queue.length().await.unwrap(), 0);
    assert_eq!(queue.peek().await.unwrap(), []);
    let texts: Vec<String> = (0..40)
        .map(|at| format!("{{\"at\":{at},\"ü\":\"<&>\"}}"))
        .collect();
    for text in &texts {
        queue.put(text, LIFE).await.unwrap();
    }
    // Two that meet a missing queue both make it.
    let another = other.queue("others").unwrap();
    let [first, second] = [another.clone(), storage.queue("others").unwrap()];
    let (first, second) = tokio::join!(first.put("a", LIFE), second.put("b", LIFE));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(another.length().await.unwrap(), 2);

    assert_eq!(queue.length().await.unwrap(), 40);
    let head = queue.peek().await.unwrap();
    let read: Vec<&str> = head
        .iter()
        .map(|one| one.text.as_deref().unwrap())
        .collect();
    assert_eq!(read, texts[..32]);
    assert!(head.iter().all(|one| one.taken == 0));
    assert!(head.windows(2).all(|two| two[0].at <= two[1].at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_takes_is_refused_with_what_to_do() {
    let [storage, _] = Azurite::shared().storage();
    let queue = storage.queue("lanes").unwrap();
    let long = "x".repeat(48 << 10);
    queue.put(&long, LIFE).await.unwrap();
    let error = queue.put(&format!("{long}x"), LIFE).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("shorter names"), "{error}");

    let account = Account {
        queue_url: None,
        ..Azurite::shared().account()
    };
    let storage = AzureStorage::new(account, wire());
    let error = storage.queue("lanes").err().unwrap().to_string();
    assert!(
        error.contains("`AzureWebJobsStorage__queueServiceUri`"),
        "{error}"
    );
}
