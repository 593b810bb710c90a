//! From the names of the wire and of Postgres (snake_case) to those of the API (camelCase), for documents that pass through.
//! Documents of users (metadata) are never changed.

use serde_json::{Map, Value};

/// Renames every key.
pub fn camel(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key_of(&key), camel(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(camel).collect()),
        other => other,
    }
}

fn key_of(snake: &str) -> String {
    let mut parts = snake.split('_');
    let mut key = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        key.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        key.push_str(letters.as_str());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_changes_and_no_value() {
        let wire = json!({"face_ratio": "face_ratio", "pose": {"yaw": 1.0}, "runner_up": [{"person_id": null}]});
        let api = json!({"faceRatio": "face_ratio", "pose": {"yaw": 1.0}, "runnerUp": [{"personId": null}]});
        assert_eq!(camel(wire), api);
    }
}
