//! What leads from one span of a trace to another beside it: a retry to the try that failed, a push to the
//! pages whose rows it carries.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::trace::{SpanContext, TraceContextExt};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A span that others come from; none where nothing is traced.
#[derive(Debug, Clone, Default)]
pub struct SpanLink(Option<SpanContext>);

impl SpanLink {
    /// This span.
    pub fn of(span: &Span) -> Self {
        if span.is_disabled() {
            return Self(None);
        }
        let context = span.context().span().span_context().clone();
        Self(context.is_valid().then_some(context))
    }

    /// Says of a span that it comes from this one.
    pub fn link(&self, span: &Span) {
        if let Some(context) = &self.0 {
            span.add_link(context.clone());
        }
    }
}

/// The exchanges for one question, one after the other: each comes from the one before it. It travels with
/// the requests, among their extensions.
#[derive(Debug, Clone, Default)]
pub struct Trail(Arc<Mutex<(u32, SpanLink)>>);

impl Trail {
    /// Notes that this exchange begins. Says how many there were before it.
    pub fn begin(&self, span: &Span) -> u32 {
        let mut trail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, cause) = &mut *trail;
        cause.link(span);
        *cause = SpanLink::of(span);
        *before += 1;
        *before - 1
    }
}
