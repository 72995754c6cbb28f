//! Charts of a trend, drawn on the server.

use std::fmt::{Display, Write};

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::number::{Count, Lapse};
use crate::core::position::trend::{TrendPoint, TrendSpan};

/// Units of the picture: a span's breadth is the width by their number.
const WIDTH: usize = 336;
const HEIGHT: u64 = 64;

/// What of a trend is drawn.
#[derive(Clone, Copy)]
pub(super) enum Drawn {
    /// Rows, as bars.
    Rows,
    /// The lag, as bars of another colour: a line would claim to know what was between.
    Lag,
}

impl Drawn {
    fn of(self, point: &TrendPoint) -> Option<u64> {
        match self {
            Self::Rows => Some(point.rows),
            Self::Lag => point.lag_minutes,
        }
    }

    /// A value as people read it.
    pub(super) fn said(self, value: u64) -> Box<dyn Display> {
        match self {
            Self::Rows => Box::new(Count(value)),
            Self::Lag => Box::new(Lapse(
                i64::try_from(value).unwrap_or(i64::MAX).saturating_mul(60),
            )),
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Lag => "lag",
        }
    }
}

/// When a span begins, in words.
pub(super) fn at(time: DateTime<Utc>) -> impl Display {
    time.format("%d %b %H:%M")
}

/// A picture with its scale, told in words to who does not see it.
pub(super) fn chart(what: &str, drawn: Drawn, spans: &[TrendSpan]) -> Markup {
    let most = most(drawn, spans);
    let (paths, missing, failed) = paths(drawn, spans, most.map_or(0, |(_, most)| most));
    let told = told(what, drawn, spans);
    let first = spans.first().map(|(time, _)| *time);
    html! {
        svg.chart viewBox="0 0 336 92" role="img" aria-label=(told) {
            @if let Some((_, most)) = most {
                text x="0" y="10" { "most " (drawn.said(most)) }
            }
            path.(drawn.class()) transform="translate(0 14)" d=(paths) {}
            path.missing transform="translate(0 14)" d=(missing) {}
            path.trouble transform="translate(0 14)" d=(failed) {}
            path.axis d="M0 78.5h336" {}
            @if let Some(first) = first {
                text x="0" y="90" { (at(first)) }
                text x="336" y="90" text-anchor="end" { "now" }
            }
        }
    }
}

/// A picture without a scale, beside the number that it goes with.
pub(super) fn spark(spans: &[TrendSpan]) -> Markup {
    let most = most(Drawn::Rows, spans).map_or(0, |(_, most)| most);
    let (paths, _, failed) = paths(Drawn::Rows, spans, most);
    html! {
        svg.spark viewBox="0 0 336 64" preserveAspectRatio="none" aria-hidden="true" {
            path.rows d=(paths) {}
            path.trouble d=(failed) {}
        }
    }
}

/// The same in a table.
pub(super) fn table(what: &str, spans: &[TrendSpan]) -> Markup {
    html! {
        table {
            caption { (what) }
            thead { tr {
                th scope="col" { "From (UTC)" }
                th scope="col" { "Rows" }
                th scope="col" { "Greatest lag" }
                th scope="col" { "Failed runs" }
            } }
            tbody {
                @for (time, point) in spans {
                    tr {
                        th scope="row" { (at(*time)) }
                        @match point {
                            Some(point) => {
                                td { (Count(point.rows)) }
                                td {
                                    @match point.lag_minutes {
                                        Some(lag) => (Drawn::Lag.said(lag)),
                                        None => "–",
                                    }
                                }
                                td { (Count(point.failed)) }
                            }
                            None => td colspan="3" { "no run" },
                        }
                    }
                }
            }
        }
    }
}

fn most(drawn: Drawn, spans: &[TrendSpan]) -> Option<(DateTime<Utc>, u64)> {
    let values = spans
        .iter()
        .filter_map(|(time, point)| Some((*time, drawn.of(point.as_ref()?)?)));
    values.max_by_key(|(_, value)| *value)
}

fn told(what: &str, drawn: Drawn, spans: &[TrendSpan]) -> String {
    let Some((time, most)) = most(drawn, spans) else {
        return format!("{what}: no run");
    };
    let mut told = format!("{what}: most {} at {}", drawn.said(most), at(time));
    let last = spans
        .last()
        .and_then(|(_, point)| drawn.of(point.as_ref()?));
    if let Some(last) = last {
        told = format!("{told}, last {}", drawn.said(last));
    }
    let missing = spans.iter().filter(|(_, point)| point.is_none()).count();
    if missing > 0 {
        told = format!("{told}, no run in {missing} of {} spans", spans.len());
    }
    told
}

/// Bars of what is there, marks of spans without a run, and marks of those with one that failed.
fn paths(drawn: Drawn, spans: &[TrendSpan], most: u64) -> (String, String, String) {
    let (mut bars, mut missing, mut failed) = Default::default();
    let step = WIDTH / spans.len().max(1);
    // Writing to a string does not fail.
    let bar = |path: &mut String, x: usize, height: u64| {
        let width = step.saturating_sub(2);
        write!(path, "M{x} {HEIGHT}v-{height}h{width}v{height}z").unwrap_or_default();
    };
    for (place, (_, point)) in spans.iter().enumerate() {
        let x = place * step;
        let Some(point) = point else {
            bar(&mut missing, x, 2);
            continue;
        };
        if let Some(value) = drawn.of(point).filter(|value| *value > 0) {
            let part = u128::from(value) * u128::from(HEIGHT) / u128::from(most.max(1));
            bar(&mut bars, x, u64::try_from(part).unwrap_or(HEIGHT).max(1));
        }
        if point.failed > 0 {
            bar(&mut failed, x, 5);
        }
    }
    (bars, missing, failed)
}
