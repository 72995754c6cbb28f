//! The same over HTTPS, in real time.

use super::*;
use crate::{
    io::{clock::SystemClock, http::Network},
    simulator::tls::{Authority, serve},
};

#[tokio::test]
async fn the_simulator_is_served_to_those_who_trust_its_authority() {
    let now = SystemClock.now();
    let simulator = Simulator::new(Options::new(1, now), Arc::new(SystemClock));
    let kept = Authority::generate(now).unwrap();
    let authority = Authority::from_pem(&kept.to_pem(), now).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = serve(simulator.router(), address, &authority)
        .await
        .unwrap();
    let network = Network::new(Some(kept.pem().as_bytes())).unwrap();
    let url = format!("{}{TOKEN}", server.base_url);
    let form = "grant_type=password&username=sentinel%40fennbridge.example\
                &password=correct+horse+%26+battery%2Bstaple";
    let request = || {
        axum::http::Request::post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap()
    };
    let response = network.send(request()).await.unwrap();
    assert_eq!(response.status, 200);
    let token: Value = serde_json::from_slice(&response.whole_body().await.unwrap()).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());

    simulator.inject(Fault::parse("eset.detections.window:cut").unwrap());
    let page = || {
        let url = format!("{}/eset/eu/{V1}?pageSize=1000", server.base_url);
        axum::http::Request::get(url)
            .header("authorization", &bearer)
            .body(Bytes::new())
            .unwrap()
    };
    let cut = network.send(page()).await.unwrap();
    assert_eq!(cut.status, 200);
    assert!(cut.whole_body().await.is_err());
    let whole = network
        .send(page())
        .await
        .unwrap()
        .whole_body()
        .await
        .unwrap();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["detections"].as_array().unwrap().len(), 1000);

    let stranger = Authority::generate(now).unwrap();
    let doubtful = Network::new(Some(stranger.pem().as_bytes())).unwrap();
    assert!(doubtful.send(request()).await.is_err());

    server.stop().await;
    assert!(network.send(request()).await.is_err());
}

#[tokio::test]
async fn a_lost_answer_is_a_dead_connection() {
    let now = SystemClock.now();
    let simulator = Simulator::new(Options::new(1, now), Arc::new(SystemClock));
    let authority = Authority::generate(now).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = serve(simulator.router(), address, &authority)
        .await
        .unwrap();
    let network = Network::new(Some(authority.pem().as_bytes())).unwrap();
    let Options {
        tenant_id,
        client_id,
        dcr,
        ..
    } = simulator.options().clone();
    let form = format!(
        "grant_type=client_credentials&client_id={client_id}\
         &client_secret=simulated~secret.of%2Bthe%2Fapp&scope=https://monitor.azure.com/.default"
    );
    let request =
        axum::http::Request::post(format!("{}/{tenant_id}/oauth2/v2.0/token", server.base_url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .unwrap();
    let token = network
        .send(request)
        .await
        .unwrap()
        .whole_body()
        .await
        .unwrap();
    let token: Value = serde_json::from_slice(&token).unwrap();
    simulator.inject(Fault::parse("ingestion:lost-answer").unwrap());
    let url = format!(
        "{}/dataCollectionRules/{dcr}/streams/{STREAM}?api-version=2023-01-01",
        server.base_url
    );
    let request = axum::http::Request::post(url)
        .header(
            "authorization",
            format!("Bearer {}", token["access_token"].as_str().unwrap()),
        )
        .header("content-type", "application/json")
        .body(Bytes::from("[{\"a\":1}]"))
        .unwrap();
    assert!(network.send(request).await.is_err());
    assert_eq!(simulator.received()[STREAM].count, 1);
    server.stop().await;
}
