//! State in memory: for tests.
