//! A face as a Qdrant point: the payload of DESIGN §6, written and read in one place.

use std::collections::HashMap;

use facewire_domain::{BoundingBox, CollectionId, CropId, FaceId, ImageHash, PersonId};
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::{PointId, PointStruct, RetrievedPoint, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::VecError;

/// The payload's fields.
pub(crate) mod field {
    pub(crate) const COLLECTION: &str = "collection";
    pub(crate) const PERSON: &str = "person_id";
    pub(crate) const CLUSTER: &str = "cluster_id";
    pub(crate) const PROTOTYPE: &str = "is_prototype";
    pub(crate) const ASSET: &str = "asset_id";
    pub(crate) const INSTANCE: &str = "face_instance_id";
    pub(crate) const QUALITY: &str = "quality_score";
    pub(crate) const CONFIDENCE: &str = "detection_confidence";
    pub(crate) const BBOX: &str = "bbox";
    pub(crate) const TAKEN_AT: &str = "taken_at";
}

/// How a field is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    /// Searches ask for it: the vector index keeps links within each of its values.
    Tenant,
    /// Searches may ask for it: where few points have one of its values, the vector index keeps links among those, so that
    /// they are found although their neighbours are filtered out.
    Bool,
    /// Only filtered on, by scans and deletions; the vector index need not know it, which makes it several times cheaper
    /// to build.
    Keyword,
    /// As [`Index::Keyword`].
    Float,
    /// As [`Index::Keyword`].
    Datetime,
}

/// The fields that are filtered on. The box is only carried.
pub(crate) const INDEXES: [(&str, Index); 9] = [
    (field::COLLECTION, Index::Tenant),
    (field::PERSON, Index::Keyword),
    (field::CLUSTER, Index::Keyword),
    (field::PROTOTYPE, Index::Bool),
    (field::ASSET, Index::Keyword),
    (field::INSTANCE, Index::Keyword),
    (field::QUALITY, Index::Float),
    (field::CONFIDENCE, Index::Float),
    (field::TAKEN_AT, Index::Datetime),
];

/// What is stored beside a face's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct FacePayload {
    /// The gallery.
    pub collection: CollectionId,
    /// Whose face; a face of nobody known is never a hit.
    pub person: Option<PersonId>,
    /// The cluster within the person.
    pub cluster: Option<Uuid>,
    /// It stands for its person.
    pub is_prototype: bool,
    /// The image it was cut from (`asset_id`, 64 hexadecimal digits).
    pub asset: Option<ImageHash>,
    /// The crop it came with (`face_instance_id`).
    pub instance: Option<CropId>,
    /// The gate's score, 0 to 1.
    pub quality_score: Option<f32>,
    /// The detector's confidence, 0 to 1.
    pub detection_confidence: Option<f32>,
    /// In pixels of the upright image (`bbox`: x1, y1, x2, y2).
    pub bbox: Option<BoundingBox>,
    /// When the picture was taken; kept to the microsecond, as Postgres does.
    pub taken_at: OffsetDateTime,
}

/// A face to store.
#[derive(Clone, PartialEq)]
pub struct FacePoint {
    /// Also the point's id.
    pub face: FaceId,
    /// L2-normalised.
    pub embedding: Vec<f32>,
    /// What is stored beside it.
    pub payload: FacePayload,
}

/// A face as Qdrant has it.
#[derive(Clone, PartialEq)]
pub struct StoredPoint {
    /// The point's id.
    pub face: FaceId,
    /// `None`: what is stored is not a face's payload (damaged, or another program's).
    pub payload: Option<FacePayload>,
    /// The vector, where it was asked for; normalised by Qdrant.
    pub embedding: Option<Vec<f32>>,
}

macro_rules! debug_without_vector {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // An embedding is biometric data: it stays out of logs.
                f.debug_struct(stringify!($name))
                    .field("face", &self.face)
                    .field("payload", &self.payload)
                    .finish_non_exhaustive()
            }
        }
    };
}

debug_without_vector!(FacePoint);
debug_without_vector!(StoredPoint);

fn microseconds(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(at.nanosecond() / 1000 * 1000).unwrap_or(at).to_offset(time::UtcOffset::UTC)
}

impl FacePayload {
    /// The payload on the wire. Absent values are absent fields.
    pub(crate) fn to_wire(&self) -> Result<HashMap<String, Value>, VecError> {
        let taken_at = microseconds(self.taken_at).format(&Rfc3339);
        let taken_at =
            taken_at.map_err(|_| VecError::Rejected("taken_at lies outside the years 0 to 9999".to_owned()))?;
        let text = |id: &dyn std::fmt::Display| Value::from(id.to_string());
        let edges =
            |b: BoundingBox| Value::from([b.x1, b.y1, b.x2, b.y2].map(|edge| Value::from(f64::from(edge))).to_vec());
        let fields = [
            (field::COLLECTION, Some(Value::from(self.collection.as_str()))),
            (field::PERSON, self.person.map(|id| text(&id))),
            (field::CLUSTER, self.cluster.map(|id| text(&id))),
            (field::PROTOTYPE, Some(Value::from(self.is_prototype))),
            (field::ASSET, self.asset.map(|hash| text(&hash))),
            (field::INSTANCE, self.instance.map(|id| text(&id))),
            (field::QUALITY, self.quality_score.map(|score| Value::from(f64::from(score)))),
            (field::CONFIDENCE, self.detection_confidence.map(|score| Value::from(f64::from(score)))),
            (field::BBOX, self.bbox.map(edges)),
            (field::TAKEN_AT, Some(Value::from(taken_at))),
        ];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// `None`: a field is missing or has another form.
    pub(crate) fn from_wire(fields: &HashMap<String, Value>) -> Option<Self> {
        let text = |name: &str| fields.get(name).and_then(string);
        // An absent field is fine where `None` is; one that cannot be read is not.
        fn optional<T>(value: Option<&Value>, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
            match value {
                None => Some(None),
                Some(value) => read(value).map(Some),
            }
        }
        Some(Self {
            collection: text(field::COLLECTION)?.parse().ok()?,
            person: optional(fields.get(field::PERSON), |v| string(v)?.parse().ok())?,
            cluster: optional(fields.get(field::CLUSTER), |v| string(v)?.parse().ok())?,
            is_prototype: matches!(fields.get(field::PROTOTYPE)?.kind, Some(Kind::BoolValue(true))),
            asset: optional(fields.get(field::ASSET), |v| hash(string(v)?))?,
            instance: optional(fields.get(field::INSTANCE), |v| string(v)?.parse::<Uuid>().ok().map(CropId::from))?,
            quality_score: optional(fields.get(field::QUALITY), number)?,
            detection_confidence: optional(fields.get(field::CONFIDENCE), number)?,
            bbox: optional(fields.get(field::BBOX), bounding_box)?,
            taken_at: OffsetDateTime::parse(text(field::TAKEN_AT)?, &Rfc3339).ok()?,
        })
    }
}

fn string(value: &Value) -> Option<&str> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f32> {
    match value.kind {
        Some(Kind::DoubleValue(number)) => Some(number as f32),
        // A whole number may come back as an integer: JSON lies between.
        Some(Kind::IntegerValue(number)) => Some(number as f32),
        _ => None,
    }
}

fn hash(text: &str) -> Option<ImageHash> {
    let mut bytes = [0_u8; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(ImageHash::from_bytes(bytes))
}

fn bounding_box(value: &Value) -> Option<BoundingBox> {
    let Some(Kind::ListValue(list)) = &value.kind else { return None };
    let edges: Vec<f32> = list.values.iter().map(number).collect::<Option<_>>()?;
    let [x1, y1, x2, y2] = edges.try_into().ok()?;
    Some(BoundingBox { x1, y1, x2, y2 })
}

impl FacePoint {
    pub(crate) fn to_wire(&self) -> Result<PointStruct, VecError> {
        let payload = self.payload.to_wire()?;
        Ok(PointStruct { id: Some(id(self.face)), payload, vectors: Some(self.embedding.clone().into()) })
    }
}

/// A face's point id.
pub(crate) fn id(face: FaceId) -> PointId {
    PointId::from(face.as_uuid().to_string())
}

/// The face of a point id; a number is another program's.
pub(crate) fn face(id: Option<&PointId>) -> Option<FaceId> {
    match id?.point_id_options.as_ref()? {
        PointIdOptions::Uuid(text) => text.parse().ok(),
        PointIdOptions::Num(_) => None,
    }
}

/// A point's person.
pub(crate) fn person(fields: &HashMap<String, Value>) -> Option<PersonId> {
    fields.get(field::PERSON).and_then(string)?.parse().ok()
}

/// It is the face of nobody known, as the condition `is_empty` sees it.
pub(crate) fn is_nobodys(fields: &HashMap<String, Value>) -> bool {
    fields.get(field::PERSON).is_none_or(|person| match &person.kind {
        None | Some(Kind::NullValue(_)) => true,
        Some(Kind::ListValue(list)) => list.values.is_empty(),
        Some(_) => false,
    })
}

impl StoredPoint {
    /// `None`: another program's point.
    pub(crate) fn from_wire(point: RetrievedPoint) -> Option<Self> {
        let face = face(point.id.as_ref())?;
        let embedding = match point.vectors.and_then(|vectors| vectors.get_vector()) {
            Some(Vector::Dense(dense)) => Some(dense.data),
            _ => None,
        };
        Some(Self { face, payload: FacePayload::from_wire(&point.payload), embedding })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload() -> impl Strategy<Value = FacePayload> {
        let ids = (any::<Option<u128>>(), any::<Option<u128>>(), any::<Option<u128>>(), any::<Option<[u8; 32]>>());
        let scores = (any::<bool>(), prop::option::of(0f32..=1.0), prop::option::of(0f32..=1.0));
        let places = (prop::option::of(prop::array::uniform4(-100f32..2000.0)), 0i64..4_000_000_000, 0u32..1_000_000);
        (ids, scores, places).prop_map(|((person, cluster, instance, asset), (is_prototype, q, d), (b, s, micro))| {
            FacePayload {
                collection: "office".parse().unwrap(),
                person: person.map(|id| Uuid::from_u128(id).into()),
                cluster: cluster.map(Uuid::from_u128),
                is_prototype,
                asset: asset.map(ImageHash::from_bytes),
                instance: instance.map(|id| Uuid::from_u128(id).into()),
                quality_score: q,
                detection_confidence: d,
                bbox: b.map(|[x1, y1, x2, y2]| BoundingBox { x1, y1, x2, y2 }),
                taken_at: OffsetDateTime::from_unix_timestamp(s).unwrap().replace_microsecond(micro).unwrap(),
            }
        })
    }

    proptest! {
        #[test]
        fn a_payload_comes_back_as_it_was(payload in payload()) {
            let wire = payload.to_wire().unwrap();
            prop_assert_eq!(FacePayload::from_wire(&wire), Some(payload));
        }

        #[test]
        fn a_payload_without_one_of_its_fields_differs(payload in payload(), which in 0usize..10) {
            let mut wire = payload.to_wire().unwrap();
            let Some(name) = wire.keys().nth(which).cloned() else { return Ok(()) };
            wire.remove(&name);
            prop_assert_ne!(FacePayload::from_wire(&wire), Some(payload));
        }
    }

    #[test]
    fn unreadable_fields_are_not_taken_for_absent_ones() {
        let wire = HashMap::from([
            ("collection".to_owned(), Value::from("office")),
            ("person_id".to_owned(), Value::from(Uuid::from_u128(1).to_string())),
            ("is_prototype".to_owned(), Value::from(false)),
            ("taken_at".to_owned(), Value::from("2026-01-02T03:04:05Z")),
        ]);
        assert!(FacePayload::from_wire(&wire).is_some());
        for (name, value) in [
            ("person_id", "x"),
            ("cluster_id", "x"),
            ("asset_id", "abc"),
            ("bbox", "1,2,3,4"),
            ("quality_score", "0.5"),
        ] {
            let mut wire = wire.clone();
            wire.insert(name.to_owned(), Value::from(value));
            assert_eq!(FacePayload::from_wire(&wire), None, "{name}");
        }
    }

    #[test]
    fn an_embedding_stays_out_of_logs() {
        let stored = StoredPoint { face: Uuid::nil().into(), payload: None, embedding: Some(vec![0.125; 2]) };
        assert!(!format!("{stored:?}").contains("0.125"));
    }
}
