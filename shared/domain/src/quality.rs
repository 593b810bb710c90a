//! A face's measured signals as values and as JSON.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::signals::{Quality, Signal};

impl Quality {
    /// Every value, in the table's order.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        Signal::ALL.into_iter().map(|signal| self.get(signal))
    }
}

fn of_group(group: &str) -> impl Iterator<Item = Signal> {
    Signal::ALL.into_iter().filter(move |signal| signal.spec().group == Some(group))
}

impl Serialize for Quality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for signal in Signal::ALL {
            match signal.spec().group {
                None => map.serialize_entry(signal.name(), &self.get(signal))?,
                // The whole group where its first signal stands.
                Some(group) if of_group(group).next() == Some(signal) => {
                    map.serialize_entry(group, &Group { quality: self, group })?;
                }
                Some(_) => {}
            }
        }
        map.end()
    }
}

struct Group<'a> {
    quality: &'a Quality,
    group: &'static str,
}

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(of_group(self.group).map(|signal| (signal.name(), self.quality.get(signal))))
    }
}

impl<'de> Deserialize<'de> for Quality {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

/// Rows of every release can be read: what they lack is NaN, and what only another release knows is passed over.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Quality;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of signals")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quality, A::Error> {
        let mut values: HashMap<Signal, f32> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let plain = Signal::ALL.into_iter().find(|signal| signal.spec().group.is_none() && signal.name() == key);
            if let Some(signal) = plain {
                values.extend(map.next_value::<Option<f32>>()?.map(|value| (signal, value)));
            } else if of_group(&key).next().is_some() {
                let group: HashMap<String, Option<f32>> = map.next_value()?;
                values.extend(of_group(&key).filter_map(|signal| Some((signal, (*group.get(signal.name())?)?))));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Quality::from_fn(|signal| values.get(&signal).copied().unwrap_or(f32::NAN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_the_shape_of_the_design_and_comes_back() {
        let quality = Quality { blur: 112.5, yaw: -3.5, detection_score: 0.5, ..Quality::default() };
        let json = serde_json::to_value(quality).unwrap();
        let expected = json!({
            "blur": 112.5, "brightness": 0.0, "face_ratio": 0.0, "landmarks_score": 0.0, "face_size": 0.0,
            "detection_score": 0.5, "pose": {"yaw": -3.5, "pitch": 0.0, "roll": 0.0}, "embedding_length": 0.0,
            "score": 0.0
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Quality>(json).unwrap(), quality);
        for signal in Signal::ALL {
            assert!(expected.pointer(&signal.spec().pointer()).is_some(), "{signal}");
        }
    }

    #[test]
    fn rows_of_other_releases_are_read() {
        let old: Quality = serde_json::from_value(json!({
            "blur": 9.0, "brightness": null, "pose": {"yaw": 1.0, "later": 2.0}, "later": {"a": [1]}
        }))
        .unwrap();
        assert_eq!((old.blur, old.yaw), (9.0, 1.0));
        assert!(old.brightness.is_nan() && old.pitch.is_nan() && old.face_size.is_nan());
        assert!(serde_json::from_value::<Quality>(json!({"blur": "sharp"})).is_err());
    }
}
