//! The tables of the stock connector, page by page.

use sentinel_connector::{error::Kind, storage::azure::table::Properties};

use super::{Scene, Step, entity};

/// The service names the table that the next page of names begins with.
fn next(name: &'static str) -> Step {
    Step::Header("x-ms-continuation-NextTableName", name)
}

async fn scene() -> Scene {
    let scene = Scene::new();
    for table in ["LastDataEI", "LastDataEP", "TokenParams", "other"] {
        let row: Properties = entity("1", "token");
        scene.whole.table(table).insert(&row).await.unwrap();
    }
    scene
}

#[tokio::test]
async fn the_names_of_tables_are_read_page_by_page() {
    let scene = scene().await;
    scene.next([next("LastDataEP")]);
    let stored = scene.cut.stock_state().await.unwrap();
    let tables: Vec<_> = stored.iter().map(|one| one.table.as_str()).collect();
    // The emulator has named all of them on the first page already.
    assert_eq!(tables, ["LastDataEI", "LastDataEP", "LastDataEP"]);
    assert!(
        stored
            .iter()
            .all(|one| one.properties.contains_key("Timestamp"))
    );
}

#[tokio::test]
async fn a_list_of_tables_that_never_ends_is_a_contract_error() {
    let scene = scene().await;
    scene.next([next("LastDataEP"), next("LastDataEP")]);
    let error = scene.cut.stock_state().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Contract);
    assert!(error.to_string().contains("came twice"), "{error}");
}

#[tokio::test]
async fn an_account_that_refuses_to_name_its_tables_is_for_the_operator() {
    let scene = scene().await;
    scene.next([Step::Answer(403, "AuthorizationFailure", None)]);
    let error = scene.cut.stock_state().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}
