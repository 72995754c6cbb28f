//! Requests and what their answers mean: endpoints as data, `OData`, retries, roles.

pub mod choice;
pub mod endpoint;
pub mod odata;
pub mod request;
pub mod retry;
pub mod roles;
pub mod source_kind;
