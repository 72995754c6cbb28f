//! Transport, clock and randomness: all that a request is sent, timed and repeated with.

use std::sync::Arc;

use super::{clock::SharedClock, http::SharedTransport};

/// A number in `0.0..1.0`, a new one each time.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The way out of the program. Clones share its parts.
#[derive(Clone)]
pub struct Wire {
    /// The network, or what stands for it.
    pub transport: SharedTransport,
    /// The time.
    pub clock: SharedClock,
    /// Numbers for waits.
    pub random: Random,
}

impl Wire {
    /// A wire over `transport`, with random numbers of the operating system's quality.
    pub fn new(transport: SharedTransport, clock: SharedClock) -> Self {
        Self {
            transport,
            clock,
            random: Arc::new(rand::random::<f64>),
        }
    }
}
