//! Several connections, and the pace of each stream.

use std::time::Duration;

use super::*;
use crate::core::position::window::{Pace, Passes, REWRITE};

const PACE: Pace = Pace {
    every: Duration::from_mins(5),
    delay: Duration::from_secs(1),
    lookback: Duration::from_secs(2),
    sweep: Duration::from_secs(5),
    step: Duration::from_secs(3),
    history: Duration::from_secs(4),
    passes: Passes::None,
    rewrite: REWRITE,
};

#[test]
fn a_stream_has_its_pace_from_defaults_and_settings() {
    let defaults = local(&ESET).connections[0]
        .streams
        .pace("eset.detections", PACE);
    assert_eq!(
        defaults,
        Pace {
            history: Duration::from_hours(24),
            ..PACE
        }
    );

    let settings = local(&with(&[
        ("ESET_DETECTIONS_EVERY", "15m"),
        ("ESET_DETECTIONS_DELAY", "90s"),
        ("ESET_DETECTIONS_LOOKBACK", "3d"),
        ("ESET_DETECTIONS_SWEEP", "7d"),
        ("ESET_DETECTIONS_STEP", "6h"),
        ("ESET_DETECTION_STEP", "6h"),
        ("INITIAL_HISTORY", "30d"),
        ("RETRY_DELAY", "not ours"),
    ]));
    let streams = &settings.connections[0].streams;
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(
        streams.pace("eset.detections", PACE),
        Pace {
            every: Duration::from_mins(15),
            delay: Duration::from_secs(90),
            lookback: hours(72),
            sweep: hours(168),
            step: hours(6),
            history: hours(720),
            passes: Passes::None,
            rewrite: REWRITE,
        }
    );
    assert_eq!(streams.pace("eset.incidents", PACE).every, PACE.every);

    let unknown = streams.unknown(&["eset.detections", "eset.incidents"]);
    assert_eq!(
        unknown.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["`ESET_DETECTION_STEP` belongs to no stream; did you mean `ESET_DETECTIONS`?"]
    );
}

#[test]
fn connections_inherit_the_flat_settings() {
    let connections = r#"[
        {"name":"main","source":"eset"},
        {"name":"contoso-2","source":"eset","every":"15m","settings":{
            "ESET_REGION":"us","USERNAME_INTEGRATION":"api@contoso.example",
            "ESET_MAX_CALLS_PER_SECOND":3,"ESET_INCIDENTS_EVERY":"1h","INITIAL_HISTORY":"7d"}}
    ]"#;
    let settings = local(&with(&[
        ("CONNECTIONS", connections),
        ("CONTOSO_2_ESET_PASSWORD", "other"),
        ("ESET_PRODUCTS", "inspect"),
        ("ESET_DETECTIONS_EVERY", "10m"),
        ("ESET_DETECTIONS_DELAY", "30s"),
    ]));
    assert_eq!(warnings(&settings), Vec::<String>::new());
    let [main, contoso] = &settings.connections[..] else {
        panic!("{settings:?}")
    };
    let (Source::Eset(main_eset), Source::Eset(contoso_eset)) = (&main.source, &contoso.source)
    else {
        panic!("connections to ESET");
    };

    assert_eq!((main.name.as_str(), main_eset.region), ("main", Region::Eu));
    assert_eq!(given(&main_eset.password), CANARY);
    assert_eq!(
        main.streams.pace("eset.detections", PACE).every,
        Duration::from_mins(10)
    );

    assert_eq!(
        (contoso.name.as_str(), contoso_eset.region),
        ("contoso-2", Region::Us)
    );
    assert_eq!(contoso_eset.login, "api@contoso.example");
    assert_eq!(given(&contoso_eset.password), "other");
    let products: Vec<&str> = contoso.choices.words("ESET_PRODUCTS").collect();
    assert_eq!(products, ["inspect"]);
    assert_eq!(contoso_eset.max_calls_per_second.get(), 3);
    let detections = contoso.streams.pace("eset.detections", PACE);
    assert_eq!(
        detections.every,
        Duration::from_mins(15),
        "its `every` wins over a flat one"
    );
    assert_eq!(detections.delay, Duration::from_secs(30));
    assert_eq!(detections.history, Duration::from_hours(168));
    assert_eq!(
        contoso.streams.pace("eset.incidents", PACE).every,
        Duration::from_hours(1)
    );
}

#[test]
fn connections_hold_no_secrets_and_no_mistakes() {
    let connections = r#"[
        {"name":"one","source":"eset","settings":{"ESET_PASSWORD":"canary-7f3a"}},
        {"name":"two","source":"eset","settings":{"ESET_LOGIN":"own@example.com"}},
        {"name":"Three","source":"eset"},
        {"name":"four","source":"sentinel"},
        {"name":"five","source":"eset","settings":{"SINK":"embedded","ESET_REGIN":"eu"}},
        {"name":"six","source":"eset","every":"often","schedule":"x"},
        {"name":"seven","source":"eset"},
        {"name":"seven","source":"eset"},
        {"name":"eight","source":"eset","settings":{"ESET_REGION":"mars"}},
        "nine",
        {"name":"ten","source":"eset","settings":{"ESET_REGION":["eu"]}}
    ]"#;
    let settings = local(&with(&[("CONNECTIONS", connections)]));
    let found: Vec<String> = settings.problems().map(ToString::to_string).collect();
    // Each stops itself alone: the one that is right goes on.
    let names = settings.connections.iter().map(|one| one.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["seven"]);
    let broken = settings.broken.iter();
    let broken: Vec<_> = broken.map(|one| (one.element, one.name.as_str())).collect();
    assert_eq!(
        broken,
        [
            (1, "one"),
            (2, "two"),
            (3, "element-3"),
            (4, "four"),
            (5, "five"),
            (6, "six"),
            (8, "element-8"),
            (9, "eight"),
            (10, "element-10"),
            (11, "ten"),
        ]
    );
    for one in &settings.broken {
        let (text, element) = (one.error().to_string(), one.element);
        assert!(text.contains(&format!("element {element}")), "{text}");
    }
    for part in [
        "`CONNECTIONS` connection `one`: `ESET_PASSWORD` is a secret, which `CONNECTIONS` must not hold: put it into the setting `ONE_ESET_PASSWORD`",
        "`TWO_ESET_PASSWORD` of connection `two` is not set",
        "`CONNECTIONS` element 3: `name` must begin",
        "`CONNECTIONS` element 4: `source` must be `eset` or `defender`",
        "`CONNECTIONS` connection `five`: `SINK` applies to the whole app",
        "`CONNECTIONS` connection `five`: `ESET_REGIN` is unknown; did you mean `ESET_REGION`?",
        "`CONNECTIONS` element 6: `schedule` is unknown",
        "`CONNECTIONS` element 6: `every` is `often`; it must be a duration",
        "`CONNECTIONS` element 8: names the connection `seven` twice",
        "`ESET_REGION` of connection `eight` is `mars`",
        "`CONNECTIONS` element 10: is not an object",
        "`CONNECTIONS` connection `ten`: `ESET_REGION` must be a text",
    ] {
        let hits = found.iter().filter(|found| found.starts_with(part)).count();
        assert_eq!(hits, 1, "{part}: {found:#?}");
    }
    assert_eq!(found.len(), 12, "{found:#?}");
    assert!(!found.concat().contains(CANARY));

    for bad in ["[{\"name\":\"canary-7f3a\"", "{}", "canary-7f3a"] {
        let found = problems(Mode::Local, &[("CONNECTIONS", bad)]);
        assert!(
            found[0].starts_with("`CONNECTIONS` is not a JSON array: line 1"),
            "{found:?}"
        );
        assert!(!found[0].contains(CANARY));
    }
}

#[test]
fn a_problem_that_is_inherited_is_told_once() {
    let connections = r#"[{"name":"a","source":"eset"},{"name":"b","source":"eset"}]"#;
    let mut settings = vec![("CONNECTIONS", connections), ("ESET_REGION", "mars")];
    settings.extend([("ESET_LOGIN", "a@example.com"), ("ESET_PASSWORD", CANARY)]);
    assert_eq!(problems(Mode::Local, &settings).len(), 1);
}

/// The settings of an environment whose `CONNECTIONS` names a list, which was read as this.
fn listed(text: Result<&str, &str>, stale: Option<&str>) -> Result<Settings, Problems> {
    let settings = with(&[("CONNECTIONS", "@blob:connections.json")]);
    let environment: Environment = settings.into_iter().collect();
    let text = text.map(str::to_owned).map_err(Error::config);
    let stale = stale.map(Error::transient);
    Settings::load(
        &environment.with_connections(text, stale.as_ref()),
        Mode::Host,
    )
}

#[test]
fn a_list_elsewhere_is_read_as_one_in_the_settings_and_what_is_wrong_with_it_is_told() {
    let more = [("SINK", "embedded"), ("STORAGE", "embedded")];
    let list = r#"[{"name":"a","source":"eset"},{"name":"b","source":"eset","disabled":true},
        {"name":"c","source":"eset","settings":{"ESET_PASSWORD":"canary-7f3a"}}, 7]"#;
    let settings = with(&[&more[..], &[("CONNECTIONS", "@connections.json")]].concat());
    let environment: Environment = settings.into_iter().collect();
    let read = environment.with_connections(Ok(format!("\u{feff}{list}")), None);
    let mut settings = Settings::load(&read, Mode::Host).unwrap();
    assert_eq!(settings.connections.len(), 1);
    assert_eq!(settings.disabled, ["b"]);
    assert_eq!(settings.broken.len(), 2);
    let disabled = settings.keep_connection("b").unwrap_err().to_string();
    assert!(disabled.contains("is disabled"), "{disabled}");
    let secret = settings.broken.first();
    assert!(secret.is_none(), "left alone by the attempt");

    let all = |result: Result<Settings, Problems>| result.unwrap_err().to_string();
    let gone = "`CONNECTIONS` names blob `x`, which is missing";
    let error = all(listed(Err(gone), None));
    assert!(error.starts_with(gone), "{error}");
    for (text, says) in [
        ("", "which is empty"),
        (" \n", "which is empty"),
        ("{", "which is not a JSON array: line 1"),
        ("canary-7f3a", "which is not a JSON array: line 1"),
    ] {
        let error = all(listed(Ok(text), None));
        assert!(
            error.contains(says) && error.contains("`@blob:connections.json`"),
            "{error}"
        );
        assert!(!error.contains(CANARY), "{error}");
    }
    let stale = environment.with_connections(Ok(list.to_owned()), Some(&Error::transient("away")));
    let warned = warnings(&Settings::load(&stale, Mode::Host).unwrap());
    assert!(
        warned[0].contains("in force") && warned[0].contains("away"),
        "{warned:?}"
    );
    // Whoever reads settings alone is told that the list is elsewhere.
    for (named, says) in [
        (
            "@connections.json",
            "names file `connections.json`, which was not read",
        ),
        (
            "@blob:a.json",
            "names blob `a.json` of container `sentinel-connector`, which was not read",
        ),
        ("@", "names no file"),
        ("@blob:", "names no file"),
        ("@blob:../x", "names the blob `../x`"),
    ] {
        let error = all(load(Mode::Local, &with(&[("CONNECTIONS", named)])));
        assert!(error.contains(says), "{error}");
    }
}
