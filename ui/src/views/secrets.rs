//! Hides what nobody shall read in a browser.
//!
//! Not here: the same in Nimbus, which hides first. Invariant: a value whose key sounds like a secret never leaves, however
//! deep it stands.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands in a secret's place.
pub(crate) const HIDDEN: &str = "*****";

/// Parts of keys whose values are secrets.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "payload",
    "blowfish",
    "secret",
    "token",
    "credential",
    "private.key",
    "access.key",
    "api.key",
];

/// The same configuration without its secrets.
pub(crate) fn hide(configuration: &mut BTreeMap<String, Value>) {
    for (key, value) in configuration.iter_mut() {
        hide_in(key, value);
    }
}

fn hide_in(key: &str, value: &mut Value) {
    let plain = key.to_ascii_lowercase().replace(['-', '_'], ".");
    let sounds_secret = WORDS.iter().any(|word| plain.contains(word));
    match value {
        Value::Null => {}
        _ if sounds_secret => *value = HIDDEN.into(),
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| hide_in(key, value)),
        Value::Array(list) => list.iter_mut().for_each(|value| hide_in("", value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_however_deep() {
        let mut configuration = serde_json::from_value(json!({
            "storm.zookeeper.auth.payload": "user:word",
            "storm.zookeeper.topology.auth.payload": null,
            "topology.workers": 2,
            "db": {"PASSWORD": "x", "host": "h", "more": [{"api_key": 7}]},
        }))
        .unwrap();
        hide(&mut configuration);
        assert_eq!(
            json!(configuration),
            json!({
                "storm.zookeeper.auth.payload": "*****",
                "storm.zookeeper.topology.auth.payload": null,
                "topology.workers": 2,
                "db": {"PASSWORD": "*****", "host": "h", "more": [{"api_key": "*****"}]},
            })
        );
    }
}
