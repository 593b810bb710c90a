//! A receipt of an erasure as people read it, whoever erased: the command `people erase` or a job.

use comfy_table::Table;
use facewire_gallery::Receipt;

use crate::output;

/// What was removed, and how many of it.
pub(super) fn table(receipt: &Receipt) -> Table {
    let mut table = output::table(&["erased", "count"]);
    for (what, count) in rows(receipt) {
        table.add_row([what.to_owned(), count.to_string()]);
    }
    table
}

/// Every count of a receipt, once.
fn rows(receipt: &Receipt) -> [(&'static str, u64); 15] {
    [
        ("persons", receipt.persons),
        ("faces: rows, embeddings, points", receipt.faces),
        ("images, where they were kept", receipt.images),
        ("parts of exports of the collection", receipt.exports),
        ("results that named the person", receipt.results),
        ("decisions about others that named the person", receipt.mentions),
        ("enrolments that came to nothing", receipt.enrolments),
        ("rows of the audit trail", receipt.trail),
        ("deliveries to webhooks", receipt.deliveries),
        ("kept answers of requests", receipt.requests),
        ("items of imports", receipt.imports),
        ("jobs that named the person", receipt.jobs),
        ("webhooks whose filters named the person", receipt.webhooks),
        ("messages in streams", receipt.messages),
        ("other rows of the collection", receipt.rows),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_count_has_its_line_and_none_has_two() {
        let Value::Object(fields) = serde_json::to_value(Receipt::default()).unwrap() else { panic!("no object") };
        let numbered = fields.keys().cloned().zip((1_u64..).map(Value::from)).collect();
        let receipt: Receipt = serde_json::from_value(Value::Object(numbered)).unwrap();
        let mut counts = rows(&receipt).map(|(_, count)| count).to_vec();
        counts.sort_unstable();
        assert_eq!(counts, (1..=fields.len() as u64).collect::<Vec<_>>());
        let names: BTreeSet<&str> = rows(&receipt).map(|(what, _)| what).into_iter().collect();
        assert_eq!((names.len(), table(&receipt).row_count()), (fields.len(), fields.len()));
    }
}
