//! One exchange with the outside world at a time: time, HTTP, tokens, rate limits.

pub mod azure_transport;
pub mod clock;
pub mod exchange;
pub mod expiry;
pub mod http;
pub mod inflate;
pub mod limiter;
pub mod password;
pub mod retry;

#[cfg(test)]
mod script;
pub mod token;
pub mod trail;
pub mod wire;
