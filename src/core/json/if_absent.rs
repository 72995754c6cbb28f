//! Answers without records.

/// What an answer is that lacks the member of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// One without records: the service leaves out what is empty.
    Empty,
    /// No answer to the question: the service writes even an empty list.
    Error,
}
