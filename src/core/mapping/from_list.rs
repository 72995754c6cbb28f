//! Columns that are filled from an element of a list, while the list goes where its rule sends it:
//! as data.

/// The list, and what is picked from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromList {
    /// The member that holds the list.
    pub list: &'static str,
    /// The member of an element that says of which kind it is; of a name with dots the last part counts.
    pub kind: &'static str,
    /// The things that a row tells of.
    pub things: &'static [Entity],
    /// What an element says better than the record itself.
    pub better: Option<Better>,
}

/// A column that an element of the list fills in place of the record's own member, because it says more
/// of the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Better {
    /// The column.
    pub column: &'static str,
    /// The record's own member, with dots: `relatedUser.userName`.
    pub own: &'static str,
    /// The kind of element.
    pub kind: &'static str,
    /// The element's member that says what the record's own does.
    pub same: &'static str,
    /// The element's member that the column gets.
    pub value: &'static str,
}

/// Columns that tell of one thing, by the kinds of element that may be it, the best first. All of them
/// are filled from one element, and none when the record itself fills one: columns that stand side by
/// side must not tell of two things.
pub type Entity = &'static [EntityKind];

/// One kind of element. The first of it that fills a column is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityKind {
    /// Its name.
    pub name: &'static str,
    /// Which columns it fills.
    pub fills: &'static [Fill],
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Its name.
    pub column: &'static str,
    /// What it gets.
    pub with: FillWith,
}

/// What of an element a column gets. Members further in are joined by dots: `imageFile.sha1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillWith {
    /// The text of the first of these members that has one.
    Text(&'static [&'static str]),
    /// The first address of a list of URLs.
    First(&'static str),
    /// A number that fits 32 bits.
    Integer(&'static str),
    /// The path of the file that this object describes, by its folder (`filePath`) and its name (`fileName`).
    File(&'static str),
    /// Whom this object describes: by `userPrincipalName`, else by `domainName` and `accountName`.
    Account(&'static str),
    /// A public address, as the other side of a connection. One within a network could be either.
    Remote(&'static str),
    /// Always this, beside a column that says more.
    Always(&'static str),
}

/// A column that gets a list: each text once that lies at the end of a path through lists, such as
/// `alerts`, `devices`, `mdatpDeviceId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectList {
    /// Its name.
    pub column: &'static str,
    /// The lists, the outermost first, and the member of an element of the last.
    pub path: &'static [&'static str],
}

/// `column` gets what lies at the end of `path`.
pub const fn gather(column: &'static str, path: &'static [&'static str]) -> CollectList {
    CollectList { column, path }
}

/// `column` gets this.
pub const fn fill(column: &'static str, with: FillWith) -> Fill {
    Fill { column, with }
}
