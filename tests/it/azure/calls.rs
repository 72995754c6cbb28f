//! What an idle stream asks of the storage account and of its source.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sentinel_connector::{
    io::{
        http::{Request, Response, SharedTransport, Transport, TransportError},
        wire::Wire,
    },
    pipeline::Outcome,
    simulator::Target,
    storage::azure::AzureStorage,
};

use super::Cloud;
use crate::azurite::{self, Azurite};

/// Writes down what is asked.
struct Counting {
    network: SharedTransport,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Transport for Counting {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let path = request.uri().path().splitn(3, '/').nth(2).unwrap_or("");
        let what = path.split(['(', '/']).next().unwrap_or("");
        let asked = format!("{} {what}", request.method());
        self.asked.lock().unwrap().push(asked);
        self.network.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_asks_four_things_of_the_storage_and_each_list_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let wire = Wire {
        transport: Arc::new(Counting {
            network: azurite::network(),
            asked: Arc::clone(&asked),
        }),
        ..azurite::wire()
    };
    let storage = AzureStorage::new(Azurite::shared().account(), wire);
    let mut cloud = Cloud::over(Arc::new(storage), |options| options.scale = 0.0);
    let streams = cloud.world.streams.clone();
    let mut idle = 0;
    for endpoint in streams
        .into_iter()
        .filter(|endpoint| endpoint.snapshot.is_none())
    {
        cloud.world.streams = vec![endpoint];
        cloud.run_until_done().await;
        cloud.world.pass(5);
        asked.lock().unwrap().clear();
        let before = cloud.world.simulator.calls().len();
        let reports = cloud.run().await;
        assert_eq!(reports[0].outcome, Outcome::UpToDate, "{reports:?}");
        assert_eq!(reports[0].counts.pulled, 0, "{reports:?}");
        let expected = [
            // The state, and its lease.
            "GET connectorstate",
            "PUT connectorstate",
            // The size of the outbox.
            "GET sentinel-connector",
            // Where the stream stands now, and the end of the lease.
            "PUT connectorstate",
        ];
        assert_eq!(*asked.lock().unwrap(), expected, "{}", endpoint.stream);
        let calls = cloud.world.simulator.calls().split_off(before);
        let targets: Vec<_> = calls.iter().map(|call| call.target.unwrap()).collect();
        // A token, the list, and the row that tells of the run.
        let [Target::EsetToken, list, Target::Ingestion] = targets[..] else {
            panic!("{}: {calls:?}", endpoint.stream);
        };
        let expected = match endpoint.stream {
            "eset.incidents" => Target::EsetIncidents,
            "eset.cloud-office" => Target::EsetCloudOffice,
            _ => Target::EsetDetections,
        };
        assert_eq!(list, expected, "{calls:?}");
        idle += 1;
    }
    assert!(idle > 1, "only {idle} streams were idle");
}
