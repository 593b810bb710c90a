//! Taking erased persons out of what jobs were told and what came of them. Removing jobs is in `jobs`.

use facewire_domain::PersonId;
use sqlx::types::JsonValue;
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::{Store, run};

/// What the name of a known person begins with in a result, before the person's id.
const KNOWN: &str = "person_";

// A job that was of one person alone must not be of everybody: it is then of a person whom there is not. There are few
// jobs.
const ERASE: &str = "
WITH results AS (
    SELECT job_id, CASE WHEN jsonb_typeof(result->'named') = 'array' THEN result->'named' ELSE '[]' END AS named
    FROM jobs
), kept AS (
    SELECT r.job_id, jsonb_array_length(r.named) AS before,
           coalesce((SELECT jsonb_agg(n.value ORDER BY n.place) FROM jsonb_array_elements(r.named)
                         WITH ORDINALITY AS n (value, place)
                     WHERE coalesce(n.value->>'name', '') <> ALL($2::text[])), '[]') AS named
    FROM results r
)
UPDATE jobs j SET
    params = CASE WHEN params->>'person' = ANY($1::text[]) THEN jsonb_set(params, '{person}', to_jsonb($3::text))
                  ELSE params END,
    result = CASE WHEN jsonb_array_length(kept.named) < kept.before THEN jsonb_set(result, '{named}', kept.named)
                  ELSE result END
FROM kept
WHERE kept.job_id = j.job_id
  AND (coalesce(params->>'person' = ANY($1::text[]), false) OR jsonb_array_length(kept.named) < kept.before)";

impl Store {
    /// Takes these persons out of the parameters and the results of jobs. How many jobs named one of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase_from_jobs(&self, persons: &[PersonId]) -> Result<u64, StoreError> {
        let ids: Vec<String> = persons.iter().map(ToString::to_string).collect();
        let names: Vec<String> = ids.iter().map(|id| format!("{KNOWN}{id}")).collect();
        let nobody = Uuid::nil().to_string();
        let erased = run!(self, "erase from jobs", connection => {
            sqlx::query(ERASE).bind(&ids).bind(&names).bind(&nobody).execute(connection).await
        })?;
        Ok(erased.rows_affected())
    }

    /// Takes out of a result that was just written whoever was erased while its job was at work.
    pub(crate) async fn take_back_result(&self, result: &JsonValue) -> Result<(), StoreError> {
        let erased = self.gone_among(named(result)).await?;
        if erased.is_empty() {
            return Ok(());
        }
        let persons: Vec<PersonId> = erased.into_iter().map(PersonId::from).collect();
        self.erase_from_jobs(&persons).await.map(drop)
    }
}

/// The persons whom a result names.
fn named(result: &JsonValue) -> Vec<Uuid> {
    let entries = result.get("named").and_then(JsonValue::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = entries.iter().filter_map(|entry| entry.get("name")?.as_str()?.strip_prefix(KNOWN));
    names.filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_known_persons_of_a_result_are_found() {
        let ada = Uuid::from_u128(7);
        let entries = [json!({ "name": format!("person_{ada}"), "faces": 3 }), json!({ "name": "unknown_cluster_1" })];
        assert_eq!(named(&json!({ "named": entries, "faces": 9 })), [ada]);
        for other in [json!(null), json!({}), json!({ "named": 7 }), json!({ "named": [{ "name": 7 }, "person_x"] })] {
            assert_eq!(named(&other), Vec::<Uuid>::new(), "{other}");
        }
    }
}
