//! What a job that exports is told. What its lines are, and where they are kept, is elsewhere.

use serde::{Deserialize, Serialize};

/// What a [`JobKind::Export`](crate::JobKind::Export) job is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExportParams {
    /// With the embeddings of the faces.
    pub vectors: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors_are_asked_for_and_nothing_unknown_is() {
        assert_eq!(serde_json::from_value::<ExportParams>(json!({})).unwrap(), ExportParams { vectors: false });
        let row = serde_json::to_value(ExportParams { vectors: true }).unwrap();
        assert_eq!(row, json!({ "vectors": true }));
        assert_eq!(serde_json::from_value::<ExportParams>(row).unwrap(), ExportParams { vectors: true });
        assert!(serde_json::from_value::<ExportParams>(json!({ "vector": true })).is_err());
    }
}
