//! Whether an object in the cluster already is what we would apply. The API server adds defaults and others add fields of
//! their own, so what we say has to be contained in what there is. Pure.

use serde_json::Value;

use crate::quantity;

/// Whether `existing` says everything that `desired` says.
pub(super) fn contains(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => desired.iter().all(|(key, value)| match existing.get(key) {
            Some(found) => contains(found, value),
            None => is_empty(value),
        }),
        // Lists of objects are keyed: others may add entries, and their order is no matter.
        (Value::Array(existing), Value::Array(desired)) if desired.iter().all(Value::is_object) => {
            desired.iter().all(|value| existing.iter().any(|found| contains(found, value)))
        }
        (Value::String(existing), Value::String(desired)) => existing == desired || quantity::equal(existing, desired),
        _ => existing == desired,
    }
}

/// An empty map and no map are the same to the API server.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_fields_of_others_do_not_matter() {
        let desired = json!({"spec": {"ports": [{"name": "http", "port": 8000}], "cpu": "1000m", "volume": {}}});
        let existing = json!({"spec": {"ports": [{"name": "x", "port": 1}, {"name": "http", "port": 8000, "protocol": "TCP"}],
            "cpu": "1", "clusterIP": "10.0.0.1"}, "status": {}});
        assert!(contains(&existing, &desired));
    }

    #[test]
    fn a_changed_or_missing_value_matters() {
        let desired = json!({"args": ["serve", "--port=8000"], "replicas": 1});
        assert!(contains(&json!({"args": ["serve", "--port=8000"], "replicas": 1}), &desired));
        assert!(!contains(&json!({"args": ["serve", "--port=8000"], "replicas": 2}), &desired));
        assert!(!contains(&json!({"args": ["serve"], "replicas": 1}), &desired));
        assert!(!contains(&json!({"args": ["--port=8000", "serve"], "replicas": 1}), &desired));
        assert!(!contains(&json!({"args": ["serve", "--port=8000"]}), &desired));
    }
}
