//! Attributes of people, and the subgroups that follow, so that error rates can be compared between groups.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{DatasetError, Fault, at, bounded, csv, lines, text};

/// A table with one row for each name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Names of the columns, without the first.
    pub columns: Vec<String>,
    /// The values by name of a person, one for each column; an empty one is unknown.
    pub rows: BTreeMap<String, Vec<String>>,
}

impl Attributes {
    /// Reads a CSV file: a header `name,attribute,attribute…` and a line for each person.
    ///
    /// # Errors
    /// The file is missing, a line has another number of fields, or a name comes twice.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        Self::parse(&text(path)?).map_err(|fault| at(path, fault))
    }

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut rest = lines(text);
        let (line, header) = rest.next().ok_or((0, "the table is empty".to_owned()))?;
        let columns = csv::split(line, header)?.split_off(1);
        if columns.is_empty() || columns.iter().any(String::is_empty) {
            return Err((line, "the header should be: name, and at least one attribute".to_owned()));
        }
        if columns.iter().collect::<BTreeSet<_>>().len() != columns.len() {
            return Err((line, "an attribute comes twice".to_owned()));
        }
        let mut rows = BTreeMap::new();
        for (line, content) in rest {
            let mut fields = csv::split(line, content)?;
            let values = fields.split_off(1);
            let name = fields.pop().unwrap_or_default();
            if values.len() != columns.len() {
                return Err((line, format!("{} attributes; the header has {}", values.len(), columns.len())));
            }
            if rows.insert(name.clone(), values).is_some() {
                return Err((line, format!("{name:?} comes twice")));
            }
            bounded(line, rows.len())?;
        }
        Ok(Self { columns, rows })
    }

    /// (attribute, value) → the names that have it; unknown values make no group.
    pub fn subgroups(&self) -> BTreeMap<(&str, &str), Vec<&str>> {
        let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (name, values) in &self.rows {
            for (column, value) in self.columns.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
                groups.entry((column, value)).or_default().push(name);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_grouped_by_value() {
        let table = Attributes::parse("name,age,glasses\nAnn,old,yes\nBob,young,\nCy,old,no\n").unwrap();
        let groups = table.subgroups();
        assert_eq!(groups[&("age", "old")], ["Ann", "Cy"]);
        assert_eq!(groups[&("glasses", "no")], ["Cy"]);
        assert_eq!(groups.len(), 4);
    }

    #[test]
    fn a_fault_names_its_line() {
        for (table, line) in [
            ("", 0),
            ("name", 1),
            ("name,", 1),
            ("n,a,a", 1),
            ("n,a\nAnn", 2),
            ("n,a\nAnn,1\nAnn,2", 3),
            ("n,a\nAnn,1,2", 2),
        ] {
            assert_eq!(Attributes::parse(table).unwrap_err().0, line, "{table:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[a-z,\"\n ]{0,80}", any in any::<String>()) {
            let _ = Attributes::parse(&text);
            let _ = Attributes::parse(&any);
        }
    }
}
