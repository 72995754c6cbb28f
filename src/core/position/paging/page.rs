//! A page of a slice: what a question asks for, and where a saved state goes on.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FilePage, Paging, Part};
use crate::core::position::window::Window;

/// Stands between a page and the link that leads on from it.
const FOLLOWED: char = '@';

/// A page of a slice.
///
/// A state holds it as text, which does not say of which paging it is: what was loaded is a token
/// until [`read_as`](Self::read_as) has read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Page {
    /// The first page of every slice.
    #[default]
    First,
    /// The page that the service named.
    Token(String),
    /// The URL that the service named.
    Link(String),
    /// The page behind so many records; or, where it has none, its link.
    Skip(u64, Option<String>),
    /// The page of a part of the window; or, where it has no records, its link.
    Part(Part, Option<String>),
    /// A place in an export of files.
    File(FilePage),
}

impl Page {
    /// The page that this text names; `None` for what no page of this paging is written as.
    pub fn parse(paging: Paging, window: Option<Window>, text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::First);
        }
        // A token or a link may hold the mark.
        let (place, link) = match text.split_once(FOLLOWED) {
            Some((place, link)) => (place, Some(link.to_owned())),
            None => (text, None),
        };
        let page = match (paging, window) {
            (Paging::Token, _) => Self::Token(text.to_owned()),
            (Paging::Link, _) => Self::Link(text.to_owned()),
            (Paging::Files, _) => Self::File(FilePage::parse(text)?),
            _ if link.as_deref() == Some("") => return None,
            (Paging::Boundary { .. } | Paging::Whole { .. }, Some(_)) => {
                Self::Part(Part::parse(place)?, link)
            }
            (Paging::Skip { .. } | Paging::Boundary { .. } | Paging::Whole { .. }, _) => {
                Self::Skip(place.parse().ok()?, link)
            }
        };
        // Somebody else's spelling is somebody else's doing.
        (page.to_string() == text).then_some(page)
    }

    /// The page of a saved state, read by its stream's paging; `None` when it is damaged.
    #[must_use]
    pub fn read_as(&self, paging: Paging, window: Option<Window>) -> Option<Self> {
        Self::parse(paging, window, &self.to_string())
    }

    /// True for the first page of a slice.
    pub fn is_first(&self) -> bool {
        *self == Self::First
    }

    /// The link that it stands for, when it is one.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Link(link) => Some(link),
            Self::Skip(_, link) | Self::Part(_, link) => link.as_deref(),
            Self::First | Self::Token(_) | Self::File(_) => None,
        }
    }

    /// The part of `window` that it asks for.
    pub fn part(&self, window: Window) -> Part {
        match self {
            Self::Part(part, _) => *part,
            _ => Part::whole(window),
        }
    }

    /// How many records come before it.
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Skip(records, _) => *records,
            _ => 0,
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => {}
            Self::Token(text) | Self::Link(text) => f.write_str(text)?,
            Self::Skip(records, _) => write!(f, "{records}")?,
            Self::Part(part, _) => write!(f, "{part}")?,
            Self::File(file) => write!(f, "{file}")?,
        }
        match self {
            Self::Skip(_, Some(link)) | Self::Part(_, Some(link)) => write!(f, "{FOLLOWED}{link}"),
            _ => Ok(()),
        }
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text.is_empty() {
            Self::First
        } else {
            Self::Token(text)
        })
    }
}
