//! A vault that refuses, in the whole program; and what it says about the end of its secrets.

use std::net::TcpListener;

use chrono::TimeDelta;
use sentinel_connector::simulator::VaultSecret;

use super::{assert_complete, check, in_azure, make_due, rows};
use crate::tenant::Served;

/// The reasons of an answer that is not well.
fn reason(answer: &str) -> String {
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    answer.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_refuses_costs_a_run_and_no_row() {
    let mut tenant = in_azure().await;
    let vault = tenant.settings["KEY_VAULT_URL"].clone();
    let secret = tenant.simulator.options().secrets["eset-password"].clone();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!(
        "https://vault.localhost:{}",
        closed.local_addr().unwrap().port()
    );
    drop(closed);
    for (fault, kind, says) in [
        ("401x*@2", "config", "answered 401: check `KEY_VAULT_URL`"),
        ("403x*", "config", "Key Vault Secrets User"),
        ("404x*", "config", "add it there"),
        ("429-retry-after=60x*", "transient", "answered 429"),
        ("absent", "config", "has no secret `eset-password`"),
        ("nobody", "transient", "can't be reached"),
    ] {
        tenant.set("KEY_VAULT_URL", &vault);
        match fault {
            "absent" => tenant.simulator.keep_secret("eset-password", None),
            "nobody" => tenant.set("KEY_VAULT_URL", &nobody),
            fault => tenant
                .simulator
                .inject(format!("key-vault:{fault}").parse().unwrap()),
        }
        make_due(&tenant).await;
        let served = Served::start(&tenant).await;
        let answer = served.invoke("EsetTimer").await;
        let reason = reason(&answer);
        assert!(reason.contains(says), "{fault}: {reason}");
        assert!(
            reason.contains(&format!("\"errorKind\":\"{kind}\"")),
            "{fault}: {reason}"
        );
        tenant.assert_no_secret(&answer);
        tenant.assert_no_secret(&served.printed());
        let landed = rows(&tenant).filter(|row| row["providerName"] == "ESET");
        assert_eq!(landed.count(), 0, "{fault}");
        tenant.simulator.heal();
        tenant
            .simulator
            .keep_secret("eset-password", Some(secret.clone()));
    }
    tenant.set("KEY_VAULT_URL", &vault);

    // The same process goes on when the vault does.
    tenant.simulator.inject("key-vault:403x*".parse().unwrap());
    make_due(&tenant).await;
    let served = Served::start(&tenant).await;
    reason(&served.invoke("EsetTimer").await);
    tenant.simulator.heal();
    make_due(&tenant).await;
    assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
    assert_complete(&tenant);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_secret_is_told_in_time() {
    let tenant = in_azure().await;
    let password = tenant.simulator.options().password.clone();
    let ends_in = |days: i64| {
        let secret = VaultSecret {
            value: password.clone(),
            expires: Some(tenant.began + TimeDelta::days(days) + TimeDelta::hours(12)),
        };
        tenant.simulator.keep_secret("eset-password", Some(secret));
    };
    let line = |printed: &str| {
        let line = printed
            .lines()
            .find(|line| line.contains("secret `eset-password`"));
        line.unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    ends_in(31);
    let said = line(&check(&tenant, true));
    assert!(said.starts_with("ok") && said.contains("31 days"), "{said}");
    ends_in(30);
    let said = line(&check(&tenant, true));
    assert!(
        said.starts_with("note") && said.contains("30 days"),
        "{said}"
    );
    ends_in(-2);
    let said = line(&check(&tenant, false));
    assert!(
        said.starts_with("BAD") && said.contains("put a new one"),
        "{said}"
    );

    ends_in(7);
    let served = Served::start(&tenant).await;
    assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
    let health: Vec<_> = rows(&tenant)
        .filter(|row| row["streamName"] == "connector.health")
        .collect();
    assert_eq!(health.len(), 3);
    for row in health {
        let fields = &row["additionalFields"];
        assert_eq!(fields["secretDaysLeft"], 7, "{fields}");
        assert_eq!(fields["secrets"][0]["name"], "secret `eset-password`");
        assert_eq!(fields["secrets"][0]["daysLeft"], 7);
    }
    let status = served.status().await;
    assert!(status.contains("ends in 7 days"), "{status}");
}
