//! A place in an export of files.

use std::fmt;

use super::Next;

/// A line of a file of an export: `generatedTime#file/files#lines`. It holds no link, which would be
/// a secret; the source asks for the links again.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The place that a page names; `None` for the first page, which is the list of files.
    pub fn of(page: &str) -> Option<Self> {
        let mut parts = page.split('#');
        let generated = parts.next().filter(|text| !text.is_empty())?.to_owned();
        let (file, files) = parts.next()?.split_once('/')?;
        Some(Self {
            generated,
            file: file.parse().ok()?,
            files: files.parse().ok()?,
            lines: parts.next()?.parse().ok()?,
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
    pub(super) fn after(page: &str, generated: Option<&str>, files: usize) -> Next {
        let next = match Self::of(page) {
            Some(this) => Self {
                file: this.file + 1,
                lines: 0,
                ..this
            },
            None => Self {
                generated: generated.unwrap_or_default().to_owned(),
                file: 0,
                files,
                lines: 0,
            },
        };
        if next.file < next.files {
            Next::Page(next.to_string())
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
