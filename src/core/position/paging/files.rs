//! A place in an export of files.

use std::fmt;

use super::{Next, Page};

/// A line of a file of an export: `generatedTime#file/files#lines`. It holds no link, which would be
/// a secret; the source asks for the links again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePage {
    /// The export, by the time when it was written.
    pub generated: String,
    /// The file, counted from 0.
    pub file: usize,
    /// How many files there are.
    pub files: usize,
    /// How many lines of it were read.
    pub lines: u64,
}

impl FilePage {
    /// The place that a text names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, lines) = text.rsplit_once('#')?;
        let (generated, place) = rest.rsplit_once('#')?;
        let (file, files) = place.split_once('/')?;
        Some(Self {
            generated: generated.to_owned(),
            file: file.parse().ok()?,
            files: files.parse().ok()?,
            lines: lines.parse().ok()?,
        })
    }

    /// The same place, so many lines into the file.
    #[must_use]
    pub fn at(&self, lines: u64) -> Self {
        Self {
            lines,
            ..self.clone()
        }
    }

    /// What comes after a page: after the list of files the first of them, after a file the next.
    pub(super) fn after(page: &Page, generated: Option<&str>, files: usize) -> Next {
        let next = match page {
            Page::File(this) => Self {
                file: this.file + 1,
                lines: 0,
                ..this.clone()
            },
            _ => Self {
                generated: generated.unwrap_or_default().to_owned(),
                file: 0,
                files,
                lines: 0,
            },
        };
        if next.file < next.files {
            Next::Page(Page::File(next))
        } else {
            Next::Done
        }
    }
}

impl fmt::Display for FilePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generated,
            file,
            files,
            lines,
        } = self;
        write!(f, "{generated}#{file}/{files}#{lines}")
    }
}
