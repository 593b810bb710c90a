//! Persons by their names: whom a name means, for those who enrol by name. Nothing is changed here.

use facewire_domain::{CollectionId, SubjectId};

use crate::error::StoreError;
use crate::persons::name_key;
use crate::store::{CHUNK, Store, count, run, text};

const NAMED: &str = "
SELECT u.at, p.subject_id FROM UNNEST($2::text[]) WITH ORDINALITY AS u (name_key, at)
JOIN persons p ON p.collection = $1 AND p.name_key = u.name_key";

impl Store {
    /// The external ids of the persons of these names, ignoring case, in their order; `None` where nobody has the name. A
    /// person who was merged into another counts: enrolment follows the merge.
    pub async fn subjects_named(
        &self,
        collection: &CollectionId,
        names: &[&str],
    ) -> Result<Vec<Option<SubjectId>>, StoreError> {
        let mut found = vec![None; names.len()];
        for (chunk, found) in names.chunks(CHUNK).zip(found.chunks_mut(CHUNK)) {
            let keys: Vec<String> = chunk.iter().map(|name| name_key(&text(name))).collect();
            let rows: Vec<(i64, String)> = run!(self, "subjects named", connection => {
                sqlx::query_as(NAMED).bind(collection.as_str()).bind(&keys).fetch_all(connection).await
            })?;
            for (at, subject) in rows {
                let place = usize::try_from(count(at - 1)).ok().and_then(|at| found.get_mut(at));
                let subject = subject.parse().map_err(|_| StoreError::corrupt("persons.subject_id"))?;
                if let Some(place) = place {
                    *place = Some(subject);
                }
            }
        }
        Ok(found)
    }
}
