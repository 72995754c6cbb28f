//! One exchange with the outside world at a time: time, HTTP, tokens, rate limits.

pub mod clock;
pub mod exchange;
pub mod http;
pub mod limiter;
pub mod login;

#[cfg(test)]
mod script;
