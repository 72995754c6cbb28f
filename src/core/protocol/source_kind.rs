//! The sources that a connection can be to.

/// A source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// ESET PROTECT Platform.
    Eset,
    /// Microsoft Defender.
    Defender,
}

impl SourceKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Eset, Self::Defender];

    /// Its name in `CONNECTIONS`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Eset => "eset",
            Self::Defender => "defender",
        }
    }
}
