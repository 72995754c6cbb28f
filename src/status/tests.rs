//! The page and its model, over states as runs leave them.

use std::{collections::BTreeSet, time::Instant};

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{
    view::{NextTurn, cost},
    *,
};
use crate::{
    core::position::{
        cursor::Gap,
        trend::{Trend, TrendPoint},
    },
    error::Result,
};

fn now() -> DateTime<Utc> {
    "2026-03-02T12:30:00Z".parse().unwrap()
}

const EVERY: Duration = Duration::from_mins(5);

/// A state of a stream that is well, and has brought rows for a week.
fn well() -> StreamState {
    let mut trend = Trend::default();
    for hours in (0..168).rev() {
        let point = TrendPoint {
            rows: 4_010 + hours % 7 * 350,
            bytes: 6_000_000,
            lag_minutes: Some(4 + hours % 3),
            failed: 0,
        };
        trend.add(
            point,
            now() - TimeDelta::hours(i64::try_from(hours).unwrap()),
        );
    }
    StreamState {
        position: Some(Position::Time(now() - TimeDelta::minutes(5))),
        complete_until: Some(now() - TimeDelta::minutes(5)),
        finished: Some(now() - TimeDelta::minutes(2)),
        trend,
        ..StreamState::default()
    }
}

fn overview(states: Vec<(StreamKey, Result<StreamState>)>) -> Overview {
    Overview {
        now: now(),
        streams: states.iter().map(|(key, _)| (key.clone(), EVERY)).collect(),
        states: states.into_iter().collect(),
        ..Overview::default()
    }
}

fn finding(found: Found, what: &str, text: &str) -> Finding {
    Finding {
        found,
        what: what.to_owned(),
        text: text.to_owned(),
    }
}

/// A state as storage gives it, that is well but for this.
#[expect(clippy::unnecessary_wraps, reason = "as storage gives it")]
fn state(change: impl FnOnce(&mut StreamState)) -> Result<StreamState> {
    let mut state = well();
    change(&mut state);
    Ok(state)
}

fn gap(why: &str) -> Gap {
    Gap {
        from: now() - TimeDelta::hours(9),
        to: now() - TimeDelta::hours(8),
        why: why.to_owned(),
    }
}

/// A state of each kind, the worst first, and what it is called.
fn conditions() -> Vec<(Condition, Result<StreamState>)> {
    let long_ago = now() - TimeDelta::hours(3);
    vec![
        (
            Condition::Failed,
            Err(Error::config("the saved state is damaged")),
        ),
        (
            Condition::Failed,
            state(|it| it.error = Some("no".to_owned())),
        ),
        (Condition::Off, state(|it| it.off = Some(long_ago))),
        (Condition::Silent, state(|it| it.finished = Some(long_ago))),
        (
            Condition::Incomplete,
            state(|it| it.gaps = vec![gap("the feed was lost")]),
        ),
        (Condition::Behind, state(|it| it.behind = true)),
        (Condition::Paused, state(|it| it.paused = Some(long_ago))),
        (Condition::Unread, Ok(StreamState::default())),
        (Condition::Well, Ok(well())),
        (
            Condition::NotOffered,
            state(|it| {
                it.off = Some(long_ago);
                it.complete_until = None;
                it.position = None;
            }),
        ),
    ]
}

#[test]
fn streams_are_told_worst_first_and_each_once() {
    let mut all: Vec<_> = conditions()
        .into_iter()
        .enumerate()
        .map(|(place, (_, state))| (StreamKey::new("contoso", &format!("eset.s{place}")), state))
        .collect();
    all.reverse();
    let overview = overview(all);
    let view = StatusView::of(&overview);
    let told: Vec<Condition> = view.streams().map(|stream| stream.condition).collect();
    let expected: Vec<Condition> = conditions().into_iter().map(|(it, _)| it).collect();
    assert_eq!(told, expected);
    let keys: BTreeSet<&StreamKey> = view.streams().map(|stream| &stream.key).collect();
    assert_eq!(keys.len(), expected.len());
    // What no setting switches on is the last, and is told with what it was.
    let mut gone = overview;
    gone.streams.clear();
    assert!(
        StatusView::of(&gone)
            .streams()
            .all(|it| it.condition == Condition::Left)
    );
}

#[test]
fn a_stream_without_a_state_has_not_run_yet_and_its_next_turn_is_told() {
    let key = |stream: &str| StreamKey::new("default", stream);
    let mut overview = overview(vec![
        (key("due"), Ok(well())),
        (
            key("late"),
            state(|it| it.finished = Some(now() - TimeDelta::minutes(6))),
        ),
        (key("left"), state(|it| it.behind = true)),
        (key("paused"), state(|it| it.paused = Some(now()))),
        (
            key("rests"),
            state(|it| {
                it.off = Some(now());
                it.off_until = Some(now() + TimeDelta::hours(20));
            }),
        ),
    ]);
    overview.streams.push((key("new"), EVERY));
    let view = StatusView::of(&overview);
    let next = |name: &str| {
        let mut streams = view.streams();
        streams.find(|it| it.key == key(name)).unwrap().next
    };
    assert_eq!(next("due"), NextTurn::At(now() + TimeDelta::minutes(3)));
    assert_eq!(next("rests"), NextTurn::At(now() + TimeDelta::hours(20)));
    for soon in ["late", "left", "new"] {
        assert_eq!(next(soon), NextTurn::Soon, "{soon}");
    }
    assert_eq!(next("paused"), NextTurn::Never);
}

#[test]
fn what_many_say_is_one_sentence_and_what_presses_stands_first() {
    let off = StreamKey::new("a", "eset.incidents");
    let mut overview = overview(vec![(off, state(|it| it.off = Some(now())))]);
    overview.findings = vec![
        finding(Found::Ok, "storage", "positions of 3 streams"),
        finding(
            Found::Bad,
            "a/eset.detections",
            "its last run failed: a/eset.detections: no login",
        ),
        finding(Found::Note, "a/eset.incidents", "is off since today"),
        finding(Found::Note, "a/eset.devices", "has not run yet"),
        finding(
            Found::Bad,
            "b/eset.detections",
            "its last run failed: no login",
        ),
        finding(Found::Note, "b/eset.devices", "has not run yet"),
        finding(Found::Note, "eset-password", "ends in 3 days"),
    ];
    overview.secrets = vec![Lasts {
        name: "eset-password".to_owned(),
        days_left: 3,
    }];
    overview.outbox = Some(OutboxOverview {
        batches: 2,
        bytes: 9,
        most: 9,
        oldest: None,
    });
    let view = StatusView::of(&overview);
    let about = |remarks: &[view::Advice]| -> Vec<String> {
        remarks
            .iter()
            .map(|remark| remark.about.join("+"))
            .collect()
    };
    let needs = [
        "a/eset.detections+b/eset.detections",
        "a/eset.incidents",
        "eset-password",
        "outbox",
    ];
    assert_eq!(about(&view.needs), needs);
    assert_eq!(about(&view.notes), ["a/eset.devices+b/eset.devices"]);
}

#[test]
fn a_day_costs_what_its_rows_weigh() {
    let price = Price {
        thousandths: 2_990,
        currency: *b"USD",
    };
    for (bytes, told) in [
        (0, "0.00 USD"),
        (1, "0.00 USD"),
        (1_000, "< 0.01 USD"),
        (1_000_000_000, "2.99 USD"),
        (123_456_789_000, "369.13 USD"),
    ] {
        assert_eq!(cost(price, bytes), told);
    }
    let plain = Price {
        currency: *b"   ",
        ..price
    };
    assert_eq!(cost(plain, 1_000_000_000), "2.99");
}

/// Everything that somebody else has named, in one overview.
fn hostile(text: &str) -> Overview {
    let key = StreamKey::new(text, "eset.detections");
    let state = state(|it| {
        it.error = Some(text.to_owned());
        it.off = Some(now());
        it.off_why = Some(text.to_owned());
        it.gaps = vec![gap(text)];
    });
    let mut overview = overview(vec![
        (key.clone(), state),
        (StreamKey::new("damaged", text), Err(Error::config(text))),
    ]);
    overview.findings = vec![
        finding(Found::Bad, text, text),
        finding(Found::Note, text, &format!("{text}, noted")),
    ];
    overview.secrets = vec![Lasts {
        name: text.to_owned(),
        days_left: -1,
    }];
    overview.outbox = Some(OutboxOverview {
        batches: 1,
        bytes: 2,
        most: 1,
        oldest: Some(Parked {
            id: text.to_owned(),
            key,
            table: text.to_owned(),
            at: now(),
            rows: 1,
            bytes: 2,
            reason: text.to_owned(),
            body: Vec::new(),
        }),
    });
    overview
}

/// The tags of a page, without what stands between them.
fn tags(page: &str) -> Vec<&str> {
    let tags = page.split('<').skip(1);
    tags.map(|tag| tag.split(['>', ' ']).next().unwrap())
        .collect()
}

#[test]
fn nothing_that_somebody_else_has_named_becomes_markup() {
    let harmless = html(&hostile("name"));
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</style><script>",
        "</title><base href=//evil.example>",
        "&lt;b&gt; & &#60;script&#62;",
        "<!--",
        "]]><svg/onload=alert(1)>",
    ] {
        let page = html(&hostile(text));
        assert_eq!(tags(&page), tags(&harmless), "{text}");
        // As often as the harmless name, and each time escaped.
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let escaped = escaped.replace('"', "&quot;");
        let times = |page: &str, name: &str| page.matches(name).count();
        assert!(times(&page, &escaped) > 10, "{text}");
        if text.contains('<') {
            assert_eq!(times(&page, text), 0, "{text}");
        }
    }
}

#[test]
fn every_shape_of_a_picture_is_closed_or_the_next_would_be_drawn_inside_it() {
    let page = html(&hostile("name"));
    for shape in ["path", "text", "svg"] {
        let opened = page.matches(&format!("<{shape} ")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{shape}>")).count(),
            "{shape}"
        );
        assert!(opened > 5, "{shape}: {opened}");
    }
}

#[test]
fn the_policy_names_the_style_that_the_page_has_and_no_other_source() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let page = html(&hostile("name"));
    let style = page
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = STANDARD.encode(ring::digest::digest(
        &ring::digest::SHA256,
        style.as_bytes(),
    ));
    assert!(
        PAGE_POLICY.contains(&format!("style-src 'sha256-{hash}'")),
        "{}",
        *PAGE_POLICY
    );
    assert!(PAGE_POLICY.starts_with("default-src 'none'; "));
    for (what, most) in [
        ("<style", 1),
        ("<script", 0),
        (" style=", 0),
        ("<form", 0),
        ("http", 0),
        ("<link", 0),
        ("src=", 0),
    ] {
        assert_eq!(page.matches(what).count(), most, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever stands in the states: each stream has one row, and the worst are first.
    #[test]
    fn each_stream_has_one_row_and_none_is_before_a_worse_one(
        picked in prop::collection::vec((0_usize..6, 0_usize..9, 0_usize..10), 0..60),
    ) {
        let mut states = SavedStates::new();
        for (connection, stream, kind) in picked {
            let key = StreamKey::new(&format!("c{connection}"), &format!("eset.s{stream}"));
            states.insert(key, conditions().swap_remove(kind).1);
        }
        let keys: BTreeSet<StreamKey> = states.keys().cloned().collect();
        let overview = overview(states.into_iter().collect());
        let view = StatusView::of(&overview);
        let told: Vec<&StreamKey> = view.streams().map(|stream| &stream.key).collect();
        prop_assert_eq!(told.len(), keys.len());
        prop_assert_eq!(told.into_iter().cloned().collect::<BTreeSet<_>>(), keys.clone());
        prop_assert!(view.connections.is_sorted_by_key(view::ConnectionView::condition));
        for connection in &view.connections {
            prop_assert!(connection.streams.is_sorted_by_key(|it| it.condition));
        }
        let page = html(&overview);
        prop_assert_eq!(page.matches("<th scope=\"row\">eset.s").count(), keys.len());
    }
}

/// Many connections of nine streams, some of each condition.
fn many(connections: usize) -> Overview {
    let kinds = conditions();
    let mut states = Vec::new();
    for connection in 0..connections {
        for stream in 0..9 {
            let key = StreamKey::new(
                &format!("customer-{connection:04}"),
                &format!("eset.s{stream}"),
            );
            let kind = match (connection * 9 + stream) % 97 {
                kind if kind < kinds.len() => kind,
                _ => 8,
            };
            states.push((key, kinds[kind].1.clone()));
        }
    }
    overview(states)
}

#[test]
fn forty_connections_are_grouped_and_those_that_need_nobody_are_closed() {
    let overview = many(40);
    let view = StatusView::of(&overview);
    let pressing = view
        .connections
        .iter()
        .filter(|it| it.condition().needs_somebody())
        .count();
    let page = html(&overview);
    assert_eq!(page.matches("<details class=\"group").count(), 40);
    let open = page.split("<details class=\"group").skip(1);
    let open = open.filter(|group| group.split('>').next().unwrap().ends_with(" open"));
    assert_eq!(open.count(), pressing);
    assert!(pressing > 3 && pressing < 40, "{pressing}");
}

/// Prints how long a page of a thousand connections takes on an idle machine: run it with `--release`.
#[test]
#[ignore = "a figure, and no test"]
#[allow(clippy::print_stdout, reason = "the figure")]
fn the_cost_of_a_page() {
    for connections in [40, 1_000] {
        let overview = many(connections);
        let (began, rounds) = (Instant::now(), 10);
        let mut bytes = 0;
        for _ in 0..rounds {
            bytes = html(&overview).len();
        }
        let each = began.elapsed() / rounds;
        println!("{connections} connections: {each:?} a page, {bytes} bytes");
    }
}

/// A few connections with what goes wrong most, as it is said.
fn pictured() -> Overview {
    let key = StreamKey::new;
    let failed = "GET /v1.0/security/alerts_v2 answered 403 (the token lacks the role `SecurityAlert.Read.All`): grant it to the app registration, and consent";
    let trouble = |failed: u64| {
        let mut trend = well().trend;
        let point = TrendPoint {
            failed,
            lag_minutes: Some(125),
            ..TrendPoint::default()
        };
        trend.add(point, now());
        trend.add(point, now() - TimeDelta::hours(1));
        trend
    };
    let mut overview = overview(vec![
        (
            key("contoso", "defender.alerts"),
            state(|it| {
                it.error = Some(failed.to_owned());
                it.complete_until = Some(now() - TimeDelta::minutes(125));
                it.trend = trouble(11);
            }),
        ),
        (key("contoso", "defender.incidents"), Ok(well())),
        (key("contoso", "defender.machines"), Ok(well())),
        (key("fabrikam", "eset.detections"), Ok(well())),
        (
            key("fabrikam", "eset.incidents"),
            state(|it| it.gaps = vec![gap("the source refused the delta token")]),
        ),
        (
            key("northwind", "eset.detections"),
            state(|it| {
                it.behind = true;
                it.complete_until = Some(now() - TimeDelta::minutes(34));
            }),
        ),
        (key("tailspin", "eset.detections"), Ok(well())),
    ]);
    overview.findings = vec![
        finding(
            Found::Bad,
            "contoso/defender.alerts",
            &format!("its last run failed: contoso/defender.alerts: {failed}"),
        ),
        finding(
            Found::Note,
            "fabrikam-eset-password",
            "ends in 12 days: put a new one in its place before",
        ),
    ];
    overview.secrets = vec![
        Lasts {
            name: "fabrikam-eset-password".to_owned(),
            days_left: 12,
        },
        Lasts {
            name: "the certificate of DEFENDER_CLIENT_CERTIFICATE_PATH".to_owned(),
            days_left: 301,
        },
    ];
    overview.outbox = Some(OutboxOverview {
        batches: 0,
        bytes: 0,
        most: 1_000_000_000,
        oldest: None,
    });
    overview.dead_letters = Some(2);
    overview.price = Some(Price {
        thousandths: 2_990,
        currency: *b"USD",
    });
    overview
}

/// One stream that stands so, with what is found of it.
fn alone(condition: Condition) -> Overview {
    let mut conditions = conditions().into_iter().rev();
    let (_, state) = conditions.find(|(one, _)| *one == condition).unwrap();
    let mut overview = overview(vec![(StreamKey::new("default", "eset.detections"), state)]);
    let text = match condition {
        Condition::Failed => {
            "its last run failed: POST /oauth/token answered 401: check the password"
        }
        Condition::Off => "is off since 2026-03-02 09:30 UTC, though it was read before",
        Condition::Incomplete => "gap 2026-03-02 03:30 to 04:30 UTC: the feed was lost",
        _ => return overview,
    };
    let found = if condition == Condition::Failed {
        Found::Bad
    } else {
        Found::Note
    };
    overview
        .findings
        .push(finding(found, "default/eset.detections", text));
    overview
}

/// Writes a page of each state to `target/status-pages`, for `tests/page/run`.
#[test]
#[ignore = "it is for tests/page/run"]
fn pages_for_a_browser() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/status-pages");
    std::fs::create_dir_all(&folder).unwrap();
    let long = "x".repeat(200);
    let hostile_text = format!(
        "</td></table><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">{long}"
    );
    let mut full = overview(vec![(
        StreamKey::new("default", "eset.detections"),
        state(|it| it.error = Some("the outbox is full".to_owned())),
    )]);
    full.outbox = hostile("403: the identity lacks the role").outbox;
    for (name, overview) in [
        ("well", alone(Condition::Well)),
        ("behind", alone(Condition::Behind)),
        ("failed", alone(Condition::Failed)),
        ("off", alone(Condition::Off)),
        ("gap", alone(Condition::Incomplete)),
        ("full-outbox", full),
        ("nothing", alone(Condition::Unread)),
        ("no-stream", overview(Vec::new())),
        ("hostile", hostile(&hostile_text)),
        ("many", many(40)),
        ("pictured", pictured()),
    ] {
        let page = json!({ "policy": *PAGE_POLICY, "html": html(&overview) });
        std::fs::write(folder.join(format!("{name}.json")), page.to_string()).unwrap();
    }
}
