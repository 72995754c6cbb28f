//! The page: one file without a script. `maud` escapes every value.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use super::{
    OutboxOverview, Overview,
    chart::{Drawn, chart, spark, table},
    number::{Count, Lapse, Size},
    view::{Advice, Condition, ConnectionView, NextTurn, StatusView, StreamView, cost},
};
use crate::{config::Price, core::position::trend::TrendPoint};

const STYLE: &str = include_str!("page.css");

/// The most streams that are drawn each: the pictures of more would be most of the page.
const DRAWN: usize = 400;

/// The most streams whose groups are all open.
const OPEN: usize = 40;

/// The most remarks that are shown at once, and the most names of one.
const REMARKS: usize = 30;
const NAMES: usize = 4;

/// The `Content-Security-Policy` of the page: its own style, and nothing else from anywhere.
pub static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The page of what the last runs left.
pub fn html(overview: &Overview) -> String {
    page(&StatusView::of(overview)).into_string()
}

fn page(view: &StatusView<'_>) -> Markup {
    let Overview { now, .. } = *view.overview;
    let verdict = verdict(view);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (verdict) " – sentinel-connector" }
                // The one text that is not escaped: ours, and the one that the policy names.
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#streams" { "Skip to the streams" }
                header {
                    h1 { "sentinel-connector" }
                    p { "Version " (env!("CARGO_PKG_VERSION")) ", as of " (time(now)) }
                }
                main {
                    section.verdict.bad[!view.needs.is_empty()] aria-labelledby="verdict" {
                        h2 #verdict { (verdict) }
                        (remarks(&view.needs))
                    }
                    (tiles(view))
                    (trends(view))
                    (streams(view))
                    (secrets(view.overview))
                    (notes(view))
                }
                footer {
                    p { "As the last runs left it: no service was asked for this page." }
                }
            }
        }
    }
}

fn verdict(view: &StatusView<'_>) -> String {
    let news = view.streams().filter(|it| it.condition.is_news()).count();
    match (view.needs.len(), view.connections.is_empty()) {
        (0, true) => "No stream is switched on".to_owned(),
        (0, false) if view.streams().all(|it| it.condition == Condition::Unread) => {
            "Nothing pulled yet".to_owned()
        }
        (0, false) if news > 0 => {
            let all = view.streams().count();
            format!("Nothing to do; not well: {news} of {all} streams")
        }
        (0, false) => "All is well".to_owned(),
        (1, _) => "1 thing needs somebody".to_owned(),
        (many, _) => format!("{many} things need somebody"),
    }
}

fn remarks(remarks: &[Advice]) -> Markup {
    let further = remarks.len().saturating_sub(REMARKS);
    html! {
        @if !remarks.is_empty() {
            ul.remarks {
                @for remark in remarks.iter().take(REMARKS) {
                    li { (names(&remark.about)) ": " (remark.text) }
                }
                @if further > 0 {
                    li { (Count(further as u64)) " more of this kind: see the streams below" }
                }
            }
        }
    }
}

fn names(names: &[String]) -> Markup {
    let further = names.len().saturating_sub(NAMES);
    html! {
        strong {
            @for (place, name) in names.iter().take(NAMES).enumerate() {
                @if place > 0 { ", " }
                (name)
            }
            @if further > 0 { " and " (Count(further as u64)) " more" }
        }
    }
}

fn tiles(view: &StatusView<'_>) -> Markup {
    let Overview {
        outbox,
        dead_letters,
        queue,
        price,
        ..
    } = view.overview;
    let well = view.streams().filter(|it| !it.condition.is_news()).count();
    let days = view.connections.iter().map(ConnectionView::last_day);
    let day = days.fold(TrendPoint::default(), TrendPoint::and);
    let lag = view
        .connections
        .iter()
        .filter_map(ConnectionView::lag_seconds)
        .max();
    html! {
        section aria-labelledby="numbers" {
            h2 #numbers.unseen { "Numbers" }
            dl.tiles {
                (tile("Streams well", &html! { (Count(well as u64)) " of " (Count(view.streams().count() as u64)) }))
                (tile("Rows in 24 h", &html! { (Count(day.rows)) small { (Size(day.bytes)) } }))
                @if let Some(price) = price {
                    (tile("Cost of these 24 h", &html! { (cost(*price, day.bytes)) }))
                }
                (tile("Greatest lag", &html! { (known(lag.map(Lapse))) }))
                (tile("Outbox", &outbox_of(outbox.as_ref(), view.overview.now)))
                (tile("Dead letters", &html! { (known(dead_letters.map(Count))) }))
                @if let Some(queue) = queue {
                    (tile("Queue", &html! {
                        (Count(queue.messages)) " lanes"
                        @if let Some(oldest) = queue.oldest {
                            small { "oldest waits " (Lapse((view.overview.now - oldest).num_seconds())) }
                        }
                        @if queue.poison.messages > 0 {
                            small { (Count(queue.poison.messages)) " given up" }
                        }
                    }))
                }
            }
        }
    }
}

fn tile(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn outbox_of(outbox: Option<&OutboxOverview>, now: DateTime<Utc>) -> Markup {
    html! {
        @match outbox {
            None => "unknown",
            Some(outbox) if outbox.batches == 0 => "empty",
            Some(outbox) => {
                (Size(outbox.bytes))
                small { "of " (Size(outbox.most)) ", " (Count(outbox.batches)) " batches" }
                @if let Some(oldest) = &outbox.oldest {
                    small {
                        "oldest waits " (Lapse((now - oldest.at).num_seconds())) ": " (oldest.reason)
                    }
                }
            }
        }
    }
}

fn trends(view: &StatusView<'_>) -> Markup {
    let spans = [("Last 24 hours", &view.day), ("Last 7 days", &view.week)];
    html! {
        section aria-labelledby="trends" {
            h2 #trends { "Rows and lag" }
            @if view.day.is_empty() {
                p { "Nothing has run yet." }
            } @else {
                div.trends {
                    @for (name, spans) in spans {
                        figure {
                            figcaption { (name) ": rows" }
                            (chart(&format!("Rows, {name}"), Drawn::Rows, spans))
                        }
                        figure {
                            figcaption { (name) ": greatest lag" }
                            (chart(&format!("Greatest lag, {name}"), Drawn::Lag, spans))
                        }
                    }
                }
                p.key { span.trouble {} " a run failed " span.missing {} " no run" }
                details {
                    summary { "These numbers as tables" }
                    div.tables {
                        @for (name, spans) in spans {
                            div { (table(name, spans)) }
                        }
                    }
                }
            }
        }
    }
}

/// A way to look at some streams only, which needs neither script nor another request.
struct StreamFilter {
    id: &'static str,
    name: &'static str,
    has: fn(&StreamView) -> bool,
}

const FILTERS: [StreamFilter; 3] = [
    StreamFilter {
        id: "show-all",
        name: "all",
        has: |_| true,
    },
    StreamFilter {
        id: "show-act",
        name: "that need somebody",
        has: |stream| stream.condition.needs_somebody(),
    },
    StreamFilter {
        id: "show-news",
        name: "that are not well",
        has: |stream| stream.condition.is_news(),
    },
];

fn streams(view: &StatusView<'_>) -> Markup {
    let many = view.streams().count();
    let is_many = view.connections.len() > 1;
    html! {
        section #streams tabindex="-1" aria-labelledby="streams-title" {
            h2 #streams-title { "Streams" }
            @if many == 0 {
                p { "No stream is switched on, or the settings are wrong." }
            } @else {
                fieldset.filter {
                    legend { "Show streams" }
                    @for filter in &FILTERS {
                        span {
                            input type="radio" name="show" id=(filter.id) checked[filter.id == "show-all"];
                            label for=(filter.id) {
                                (filter.name) " (" (Count(view.streams().filter(|it| (filter.has)(it)).count() as u64)) ")"
                            }
                        }
                    }
                }
                @if is_many {
                    details.index {
                        summary { "Jump to one of " (Count(view.connections.len() as u64)) " connections" }
                        nav aria-label="Connections" {
                            ul {
                                @for (place, connection) in view.connections.iter().enumerate() {
                                    li { a href={ "#c" (place) } { (connection.name) } }
                                }
                            }
                        }
                    }
                }
                @for (place, connection) in view.connections.iter().enumerate() {
                    (group(place, connection, many, view.overview))
                }
                p.nothing { "No stream is so." }
            }
        }
    }
}

fn group(place: usize, connection: &ConnectionView, many: usize, overview: &Overview) -> Markup {
    let condition = connection.condition();
    let day = connection.last_day();
    let is_open = many <= OPEN || condition.needs_somebody();
    html! {
        details.group.act[condition.needs_somebody()].news[condition.is_news()] id={ "c" (place) } open[is_open] {
            summary {
                h3 { (connection.name) }
                " " (badge(condition))
                " " span.sums {
                    (Count(connection.streams.len() as u64))
                    @if connection.streams.len() == 1 { " stream, " } @else { " streams, " }
                    (Count(day.rows)) " rows in 24 h, lag " (known(connection.lag_seconds().map(Lapse)))
                }
            }
            table.streams {
                caption.unseen { "Streams of " (connection.name) ", the worst first" }
                thead { tr {
                    th scope="col" { "Stream" }
                    th scope="col" { "State" }
                    th scope="col" { "Lag" }
                    th scope="col" { "Rows in 24 h" }
                    @if overview.price.is_some() { th scope="col" { "Cost in 24 h" } }
                    th scope="col" { "Failed runs in 24 h" }
                    th scope="col" { "Gaps" }
                    th scope="col" { "Next" }
                } }
                tbody {
                    @for stream in &connection.streams {
                        (row(stream, many <= DRAWN, overview))
                    }
                }
            }
        }
    }
}

fn row(stream: &StreamView, is_drawn: bool, overview: &Overview) -> Markup {
    let condition = stream.condition;
    let is_told = is_drawn || condition.is_news();
    let columns = 7 + usize::from(overview.price.is_some());
    html! {
        tr.act[condition.needs_somebody()].news[condition.is_news()] {
            th scope="row" { (stream.key.stream) }
            td data-of="State" { (badge(condition)) }
            td data-of="Lag" { (known(stream.lag_seconds.map(Lapse))) }
            td data-of="Rows in 24 h" { (Count(stream.last_day.rows)) " " @if is_drawn { (spark(&stream.day)) } }
            @if let Some(price) = overview.price {
                td data-of="Cost in 24 h" { (cost_of(price, stream)) }
            }
            td data-of="Failed runs in 24 h" { (Count(stream.last_day.failed)) }
            td data-of="Gaps" { (Count(stream.gaps.len() as u64)) }
            td data-of="Next" { (next(stream.next, overview.now)) }
        }
        @if is_told {
            tr.more.act[condition.needs_somebody()].news[condition.is_news()] {
                td colspan=(columns) {
                    details {
                        summary { "More about " (stream.key.stream) }
                        ul { @for sentence in &stream.says { li { (sentence) } } }
                        @if is_drawn && !stream.day.is_empty() {
                            div.trends {
                                @for (name, spans) in [("24 hours", &stream.day), ("7 days", &stream.week)] {
                                    figure {
                                        figcaption { "Rows, " (name) }
                                        (chart(&format!("Rows of {}, {name}", stream.key), Drawn::Rows, spans))
                                    }
                                    figure {
                                        figcaption { "Lag, " (name) }
                                        (chart(&format!("Lag of {}, {name}", stream.key), Drawn::Lag, spans))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cost_of(price: Price, stream: &StreamView) -> String {
    cost(price, stream.last_day.bytes)
}

fn next(next: NextTurn, now: DateTime<Utc>) -> Markup {
    html! {
        @match next {
            NextTurn::At(due) => { "in " (Lapse((due - now).num_seconds())) },
            NextTurn::Soon => "next run",
            NextTurn::Never => "–",
        }
    }
}

fn badge(condition: Condition) -> Markup {
    let class = match condition {
        it if it.needs_somebody() => "bad",
        Condition::Well => "well",
        it if it.is_news() => "warn",
        _ => "idle",
    };
    html! { span.badge.(class) { (condition.word()) } }
}

fn secrets(overview: &Overview) -> Markup {
    html! {
        @if !overview.secrets.is_empty() {
            section aria-labelledby="secrets" {
                h2 #secrets { "Secrets and certificates" }
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Days left" } } }
                    tbody {
                        @for secret in &overview.secrets {
                            tr { th scope="row" { (secret.name) } td { (secret.days_left) } }
                        }
                    }
                }
            }
        }
    }
}

fn notes(view: &StatusView<'_>) -> Markup {
    html! {
        @if !view.notes.is_empty() {
            section aria-labelledby="notes" {
                h2 #notes { "Worth knowing" }
                (remarks(&view.notes))
            }
        }
    }
}

fn known<T: std::fmt::Display>(value: Option<T>) -> Markup {
    html! {
        @match value {
            Some(value) => (value.to_string()),
            None => "–",
        }
    }
}

fn time(time: DateTime<Utc>) -> Markup {
    html! { time datetime=(time.to_rfc3339()) { (super::utc(time)) } }
}
