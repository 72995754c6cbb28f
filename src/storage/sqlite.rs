//! State in the embedded file.
