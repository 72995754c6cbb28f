//! Lists: columns and rows, as a table for people and as CSV for spreadsheets.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::plain;
use crate::error::{Error, Result};

/// The least width of a column that can be read; where a terminal has less for each, a row takes a
/// line for each value.
const LEAST: usize = 10;

/// A column of a list of these things.
pub(in crate::cli) struct SheetColumn<T> {
    title: &'static str,
    member: &'static str,
    cell: Option<fn(&T) -> String>,
    side: CellAlignment,
}

impl<T> SheetColumn<T> {
    /// Text: under its title in a table, and in CSV the member of its JSON.
    pub(in crate::cli) const fn text(
        title: &'static str,
        member: &'static str,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            title,
            member,
            cell: Some(cell),
            side: CellAlignment::Left,
        }
    }

    /// A number, which stands to the right.
    pub(in crate::cli) const fn number(
        title: &'static str,
        member: &'static str,
        cell: fn(&T) -> String,
    ) -> Self {
        let mut column = Self::text(title, member, cell);
        column.side = CellAlignment::Right;
        column
    }

    /// Member of the JSON that stands in CSV alone.
    pub(in crate::cli) const fn data(member: &'static str) -> Self {
        Self {
            title: "",
            member,
            cell: None,
            side: CellAlignment::Left,
        }
    }
}

/// A list as a table.
pub(super) fn table<T>(columns: &[SheetColumn<T>], items: &[T], width: Option<usize>) -> String {
    let shown = || columns.iter().filter(|column| column.cell.is_some());
    let titles: Vec<String> = shown().map(|column| column.title.to_owned()).collect();
    let sides: Vec<CellAlignment> = shown().map(|column| column.side).collect();
    let cells: Vec<fn(&T) -> String> = shown().filter_map(|column| column.cell).collect();
    let row = |item| cells.iter().map(|cell| cell(item)).collect();
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    grid(&titles, &sides, &rows, width)
}

/// Rows under titles: with lines around them on a terminal of that width, without elsewhere.
pub(super) fn grid(
    titles: &[String],
    sides: &[CellAlignment],
    rows: &[Vec<String>],
    width: Option<usize>,
) -> String {
    let rows = rows.iter();
    let mut rows: Vec<Vec<String>> = rows
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let mut titles = titles.to_vec();
    let mut sides = sides.to_vec();
    if let Some(width) = width {
        let natural = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let longest = cells.map(|cell| cell.chars().count()).max();
            longest.unwrap_or_default().max(LEAST)
        };
        let needed: usize = (0..titles.len()).map(|at| natural(at) + 3).sum();
        if needed > width {
            drop_empty(&mut titles, &mut sides, &mut rows);
        }
        if titles.len() * (LEAST + 3) > width {
            return blocks(&titles, &rows);
        }
    }
    let first = rows.iter().filter_map(|row| row.first());
    let first = first.chain(titles.first()).map(|cell| cell.chars().count());
    let longest = first.max().unwrap_or_default();
    let mut table = Table::new();
    match width {
        Some(width) => {
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        }
        None => {
            table.load_style(presets::NOTHING);
        }
    }
    table.set_header(titles);
    for row in rows {
        table.add_row(row);
    }
    for (column, side) in table.column_iter_mut().zip(sides) {
        column.set_cell_alignment(side);
        if width.is_none() {
            column.set_padding((0, 2));
        }
    }
    // What a row is about is not broken in two, where there is room.
    if let Some((width, first)) = width.zip(table.column_mut(0))
        && longest <= width / 2
    {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.trim_fmt()
}

/// Leaves out the columns that say nothing in any row: there is no room for them.
fn drop_empty(titles: &mut Vec<String>, sides: &mut Vec<CellAlignment>, rows: &mut [Vec<String>]) {
    let says = |row: &Vec<String>, at: usize| {
        let cell = row.get(at).map_or("", String::as_str);
        !matches!(cell, "" | "-" | "0")
    };
    let mut at = titles.len();
    while at > 1 {
        at -= 1;
        if !rows.iter().any(|row| says(row, at)) {
            titles.remove(at);
            sides.remove(at);
            for row in &mut *rows {
                row.remove(at);
            }
        }
    }
}

/// Rows with a line for each value.
fn blocks(titles: &[String], rows: &[Vec<String>]) -> String {
    let longest = titles.iter().map(|title| title.chars().count()).max();
    let longest = longest.unwrap_or_default();
    let mut lines = Vec::new();
    for (number, row) in (1..).zip(rows) {
        lines.push(format!("── {number} ──"));
        for (title, cell) in titles.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            lines.push(format!("{title:<longest$}  {cell}"));
        }
    }
    lines.join("\n")
}

/// A list as CSV: a head, and a record for each of the things.
pub(super) fn csv<T: Serialize>(columns: &[SheetColumn<T>], items: &[T]) -> Result<String> {
    let members: Vec<&str> = columns.iter().map(|column| column.member).collect();
    let rows = items.iter().map(|item| {
        let item = serde_json::to_value(item).map_err(encoding)?;
        Ok(members
            .iter()
            .map(|member| scalar(&item[*member]))
            .collect())
    });
    records(&members, rows.collect::<Result<Vec<Vec<String>>>>()?)
}

/// A head and records as CSV.
pub(super) fn records(
    head: &[impl AsRef<[u8]>],
    rows: impl IntoIterator<Item = impl IntoIterator<Item = impl AsRef<[u8]>>>,
) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(head).map_err(encoding)?;
    for row in rows {
        writer.write_record(row).map_err(encoding)?;
    }
    let bytes = writer.into_inner().map_err(encoding)?;
    String::from_utf8(bytes).map_err(encoding)
}

/// A value as the text of a field; lists and objects as JSON.
pub(in crate::cli) fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn encoding(error: impl std::fmt::Display) -> Error {
    Error::contract(format!("the answer cannot be encoded: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
        rows: u64,
        why: Option<&'static str>,
        tags: Vec<&'static str>,
    }

    const COLUMNS: [SheetColumn<Thing>; 4] = [
        SheetColumn::text("thing", "name", |thing| thing.name.to_owned()),
        SheetColumn::number("rows", "rows", |thing| thing.rows.to_string()),
        SheetColumn::text("why", "why", |thing| thing.why.unwrap_or("-").to_owned()),
        SheetColumn::data("tags"),
    ];

    fn things() -> Vec<Thing> {
        vec![
            Thing {
                name: "a \"quoted\", one",
                rows: 1234,
                why: None,
                tags: vec!["x", "y"],
            },
            Thing {
                name: "bell\u{7}",
                rows: 2,
                why: None,
                tags: Vec::new(),
            },
        ]
    }

    #[test]
    fn csv_has_the_values_as_they_are_and_json_in_fields_that_hold_more() {
        let text = csv(&COLUMNS, &things()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("name,rows,why,tags"));
        let expected = r#""a ""quoted"", one",1234,,"[""x"",""y""]""#;
        assert_eq!(lines.next(), Some(expected));
        assert_eq!(scalar(&json!(null)), "");
    }

    #[test]
    fn a_table_has_lines_on_a_terminal_alone_and_no_letter_that_a_terminal_obeys() {
        let piped = table(&COLUMNS, &things(), None);
        assert!(piped.is_ascii(), "{piped}");
        assert!(!piped.contains('\u{7}'), "{piped}");
        let first = piped.lines().nth(1).unwrap();
        assert_eq!(first, "a \"quoted\", one  1234  -");
        let framed = table(&COLUMNS, &things(), Some(80));
        assert!(framed.contains('│') && framed.contains("why"), "{framed}");
    }

    #[test]
    fn where_the_terminal_is_narrow_what_says_nothing_goes_and_a_row_takes_lines_at_last() {
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        let narrow = table(&COLUMNS, &things(), Some(40));
        assert!(!narrow.contains("why") && narrow.contains('│'), "{narrow}");
        assert!(widest(&narrow) <= Some(40), "{narrow}");
        let least = table(&COLUMNS, &things(), Some(20));
        assert!(least.contains("── 2 ──\nthing  bell"), "{least}");
    }
}
