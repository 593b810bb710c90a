//! Tables of a plan's report. Numbers come from elsewhere.

use std::fmt::Display;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with borders; numbers stand right, the first column left.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A row of a table of two columns.
pub(crate) fn row(what: &str, value: impl Display) -> Vec<String> {
    vec![what.to_owned(), value.to_string()]
}
