//! What is asked of a JSON body beyond its types: it is an object, and says nothing twice.
//!
//! Not here: which bodies there are (`submission`). Invariant: what is refused here has changed nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A body that is a JSON object: an array, whose elements would be taken for the fields in turn, is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// How many executors components shall have, each named once; for serde's `deserialize_with`.
///
/// # Errors
/// If it is no map of numbers, or names a component twice.
pub fn executors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u32>, D::Error> {
    struct Components;

    impl<'de> Visitor<'de> for Components {
        type Value = BTreeMap<String, u32>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("an object of components and numbers of executors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut executors = BTreeMap::new();
            while let Some((component, number)) = map.next_entry::<String, u32>()? {
                if executors.contains_key(&component) {
                    let shown: String = component.chars().take(64).flat_map(char::escape_default).collect();
                    return Err(A::Error::custom(format!("component `{shown}` is named twice")));
                }
                executors.insert(component, number);
            }
            Ok(executors)
        }
    }

    deserializer.deserialize_map(Components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::{Kill, Rebalance};

    #[test]
    fn an_array_is_no_object_and_nothing_is_said_twice() {
        let rebalance = |json: &str| {
            serde_json::from_str(json).map(|Object(body): Object<Rebalance>| body).map_err(|error| error.to_string())
        };
        let taken = Rebalance { wait_secs: None, workers: Some(2), executors: [("split".to_owned(), 1)].into() };
        assert_eq!(rebalance(r#"{"workers": 2, "executors": {"split": 1}}"#), Ok(taken));
        for (json, why) in [
            ("[null, null, {}]", "invalid type: sequence, expected a JSON object"),
            ("null", "invalid type: null, expected a JSON object"),
            (r#"{"workers": 2, "workers": 3, "executors": {}}"#, "duplicate field `workers`"),
            (r#"{"executors": {"split": 1, "split": 2}}"#, "component `split` is named twice"),
            (r#"{"executors": [["split", 1]]}"#, "expected an object of components and numbers of executors"),
        ] {
            let refused = rebalance(json).unwrap_err();
            assert!(refused.contains(why), "{json}: {refused}");
        }
        assert_eq!(serde_json::from_str(r#"{"wait_secs": 5}"#).ok(), Some(Object(Kill { wait_secs: Some(5) })));
        assert!(serde_json::from_str::<Object<Kill>>("[5]").is_err());
    }
}
