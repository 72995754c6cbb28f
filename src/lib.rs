//! The library behind the `sentinel-connector` binary: security data from where it arises to the
//! tables of Microsoft Sentinel, lossless and able to prove it.
//!
//! # The walk
//!
//! ```text
//! POST /EsetTimer                              host        a wake-up call; the deadline is ours
//!  → function name → its streams               app         the longest waiting first
//!  → take the lease, load the cursor           storage     one entity with an ETag
//!  → plan slices from cursor and clock         core        never from the trigger's time
//!  → for each slice, for each page:            pipeline    the only loop
//!       request → send → chunks                core, io    status before body; retry is a table
//!       records → rows                         core        tolerant, lossless
//!       drop what was seen                     core
//!       rows → batches                         core        incremental, by exact bytes
//!       push                                   sink
//!       save the cursor                        storage     only behind rows that are safe
//!  → report → 200, or 500 with the kind of error
//! ```
//!
//! # The house
//!
//! | room | what it is for | imports |
//! |---|---|---|
//! | [`cli`] | the command line | everything |
//! | [`app`] | settings → concrete parts; function name → work | `config` `core` `embedded` `host` `io` `outbox_drain` `pipeline` `secret` `sink` `source` `storage` `telemetry` |
//! | [`serve`] | the functions, as the host calls them | `app` `assets` `config` `core` `host` `io` `status` |
//! | [`check`] | tries each setting and each dependency | `app` `config` `core` `io` `pipeline` `sink` `source` `storage` |
//! | [`status`] | where everything stands, as JSON and as a page | `app` `check` `config` `core` `io` `storage` |
//! | [`assets`] | the machine behind an address, a name or an id | `app` `core` `io` `source` `storage` |
//! | [`config`] | settings, read from a map of the environment | `core` `logging` |
//! | [`host`] | the custom-handler protocol | `core` `io` `telemetry` |
//! | [`pipeline`] | one run of one stream | `core` `io` `sink` `source` `storage` |
//! | [`outbox_drain`] | brings what waits in the outbox to the sink | `core` `io` `pipeline` `storage` |
//! | [`core`] | decisions: pure functions and data | nothing |
//! | [`import`] | positions that the stock ESET connector left behind | `core` |
//! | [`io`] | one exchange at a time: clock, HTTP, tokens, rate limit | `core` |
//! | [`source`] | answers one page | `core` `io` |
//! | [`sink`] | takes one batch | `core` `embedded` `io` |
//! | [`storage`] | remembers from run to run | `core` `embedded` `import` `io` |
//! | [`secret`] | keeps secrets | `core` `io` |
//! | [`telemetry`] | traces and metrics, sent by OTLP | `config` `core` `io` |
//! | [`embedded`] | the one `SQLite` file behind `sink` and `storage` | nothing |
//! | [`simulator`] | the outside world, for the demo and the tests; in no package (feature `simulator`) | `core` `io` |
//! | [`logging`] | lines about what happens | nothing |
//! | [`error`] | one error type that says who must act; every room may import it | nothing |
//!
//! A test (`tests/it/arrows.rs`) reads this table and holds the `use` lines against it. No two files
//! import each other, but for a module and what lies in it.
#![forbid(unsafe_code)]

pub mod app;
pub mod assets;
pub mod check;
pub mod cli;
pub mod config;
pub mod core;
pub mod embedded;
pub mod error;
pub mod host;
pub mod import;
pub mod io;
pub mod logging;
pub mod outbox_drain;
pub mod pipeline;
pub mod secret;
pub mod serve;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod sink;
pub mod source;
pub mod status;
pub mod storage;
pub mod telemetry;
