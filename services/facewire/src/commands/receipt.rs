//! A receipt of an erasure as people read it, whoever erased: the command `people erase` or a job.

use comfy_table::Table;
use facewire_gallery::Receipt;

use crate::output;

/// What was removed, and how many of it.
pub(super) fn table(receipt: &Receipt) -> Table {
    let mut table = output::table(&["erased", "count"]);
    for (what, count) in [
        ("persons", receipt.persons),
        ("faces: rows, embeddings, points", receipt.faces),
        ("images, where they were kept", receipt.images),
        ("parts of exports of the collection", receipt.exports),
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
    ] {
        table.add_row([what.to_owned(), count.to_string()]);
    }
    table
}
