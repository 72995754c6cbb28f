//! Which member of a record goes to which column: as data.

/// How a member becomes a column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// A string stays one, unless it stands for no value (`nil`); anything else becomes its JSON text.
    Text,
    /// A string stays one, whatever it says; anything else becomes its JSON text.
    Verbatim,
    /// The member of this name of an object that the column is made of, with all members that are
    /// taken like this.
    Member(&'static str),
    /// An account's name, behind the domain that the member of this name beside it says.
    Account(&'static str),
    /// A folder, with the file in it that a member beside it names.
    Path(Path),
    /// What names a record: a string stays one, and a number becomes text.
    Name,
    /// A number becomes text.
    NumberText,
    /// A number that fits 32 bits.
    Integer,
    /// A number that fits 64 bits.
    Long,
    /// A number, as far as a double holds it.
    Real,
    /// A decimal string that fits 32 bits becomes a number.
    TextInteger,
    /// True or false.
    Boolean,
    /// Any JSON value, as it is.
    Json,
    /// The texts of a list, with those of the list that the member of this name beside it is: each once,
    /// and none that stands for no value.
    Texts(&'static str),
    /// An object, as it is but for the names of some of its members, `(theirs, ours)`.
    Renamed(&'static [(&'static str, &'static str)]),
    /// Any JSON value, as the only member of an object.
    Inside(&'static str),
    /// A time.
    Time,
    /// A time in UTC that leaves out `T` and `Z`.
    BareTime,
    /// Whether a text is this one. The text stays with what no column took.
    Is(&'static str),
}

/// How a folder becomes a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The member beside it that names the file.
    pub file: &'static str,
    /// Only where this member beside it says something, if one is named.
    pub with: &'static str,
    /// Only where this member beside it says nothing, if one is named.
    pub without: &'static str,
}

/// The path of a file that the member `file` names.
pub const fn path(file: &'static str) -> As {
    As::Path(Path {
        file,
        with: "",
        without: "",
    })
}

/// Where a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To a column.
    Column(&'static str, As),
    /// Its own members go on by rules of their own; what they leave over goes to the column `rest`,
    /// else to `additionalFields`.
    JsonObject {
        /// The column for what is left over.
        rest: Option<&'static str>,
        /// The rules for the members.
        rules: &'static [Rule],
    },
}

/// One member's way. Of two rules for the same column the first that finds its member wins; the
/// other member stays with what no column took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The member's name.
    pub member: &'static str,
    /// Where it goes.
    pub to: To,
    /// True when another rule is the usual one for this column, so that a row has to say that this
    /// one was taken.
    pub alternate: bool,
}

/// `member` goes to `column`.
pub const fn take(member: &'static str, column: &'static str, how: As) -> Rule {
    Rule {
        member,
        to: To::Column(column, how),
        alternate: false,
    }
}

/// `member` goes to `column`, which is usually filled by another rule.
pub const fn or_take(member: &'static str, column: &'static str, how: As) -> Rule {
    Rule {
        member,
        to: To::Column(column, how),
        alternate: true,
    }
}

/// The members of `member` go on by `rules`, what they leave over to `rest`.
pub const fn within(
    member: &'static str,
    rest: Option<&'static str>,
    rules: &'static [Rule],
) -> Rule {
    Rule {
        member,
        to: To::JsonObject { rest, rules },
        alternate: false,
    }
}
