//! Filters: the gRPC message becomes the JSON of Qdrant's REST API, which `qdrant-edge` reads by itself. A condition
//! that is not written here is refused, since a filter that loses a condition answers about strangers.

use qdrant_client::qdrant::{self as grpc, condition::ConditionOneOf, r#match::MatchValue};
use serde_json::{Map, Value as Json, json};
use tonic::Status;

use super::convert::{finite, id_out, point_id, wrong_input};

/// The engine's filter; an empty one counts as none.
pub(super) fn filter(filter: Option<grpc::Filter>) -> Result<Option<qdrant_edge::Filter>, Status> {
    filter.map(required).transpose()
}

/// The engine's filter.
pub(super) fn required(filter: grpc::Filter) -> Result<qdrant_edge::Filter, Status> {
    serde_json::from_value(clauses(filter)?).map_err(|error| wrong_input(format!("filter: {error}")))
}

fn clauses(filter: grpc::Filter) -> Result<Json, Status> {
    let mut clauses = Map::new();
    for (name, conditions) in [("must", filter.must), ("should", filter.should), ("must_not", filter.must_not)] {
        if !conditions.is_empty() {
            clauses.insert(name.to_owned(), list(conditions)?);
        }
    }
    if let Some(min) = filter.min_should {
        let conditions = list(min.conditions)?;
        clauses.insert("min_should".to_owned(), json!({ "conditions": conditions, "min_count": min.min_count }));
    }
    Ok(Json::Object(clauses))
}

fn list(conditions: Vec<grpc::Condition>) -> Result<Json, Status> {
    conditions.into_iter().map(condition).collect::<Result<Vec<_>, _>>().map(Json::Array)
}

fn condition(condition: grpc::Condition) -> Result<Json, Status> {
    match condition.condition_one_of {
        Some(ConditionOneOf::Field(field)) => field_condition(field),
        Some(ConditionOneOf::IsEmpty(field)) => Ok(json!({ "is_empty": { "key": field.key } })),
        Some(ConditionOneOf::IsNull(field)) => Ok(json!({ "is_null": { "key": field.key } })),
        Some(ConditionOneOf::HasId(ids)) => has_id(ids.has_id),
        Some(ConditionOneOf::Filter(inner)) => clauses(inner),
        Some(ConditionOneOf::Nested(nested)) => {
            let inner = nested.filter.ok_or_else(|| wrong_input("a nested condition needs a filter"))?;
            Ok(json!({ "nested": { "key": nested.key, "filter": clauses(inner)? } }))
        }
        Some(ConditionOneOf::HasVector(_)) => Err(unserved("has_vector")),
        Some(ConditionOneOf::Slice(_)) => Err(unserved("slice")),
        None => Err(wrong_input("a filter condition is empty")),
    }
}

fn has_id(ids: Vec<grpc::PointId>) -> Result<Json, Status> {
    use grpc::point_id::PointIdOptions;
    let ids = ids.into_iter().map(|id| match id_out(point_id(Some(id))?).point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(json!(number)),
        Some(PointIdOptions::Uuid(text)) => Ok(json!(text)),
        None => Err(wrong_input("Empty ID is not allowed")),
    });
    Ok(json!({ "has_id": ids.collect::<Result<Vec<_>, _>>()? }))
}

fn field_condition(field: grpc::FieldCondition) -> Result<Json, Status> {
    if field.geo_bounding_box.is_some() || field.geo_radius.is_some() || field.geo_polygon.is_some() {
        return Err(unserved("geo"));
    }
    if field.range.is_some() && field.datetime_range.is_some() {
        return Err(wrong_input("a field condition has one range"));
    }
    let mut clause = Map::from_iter([("key".to_owned(), Json::String(field.key))]);
    let mut conditions = 0;
    let mut put = |name: &str, value: Json| {
        conditions += 1;
        clause.insert(name.to_owned(), value);
    };
    if let Some(found) = field.r#match {
        put("match", match_value(found)?);
    }
    if let Some(range) = field.range {
        put("range", bounds([("lt", range.lt), ("gt", range.gt), ("gte", range.gte), ("lte", range.lte)], finite)?);
    }
    if let Some(range) = field.datetime_range {
        let times = [("lt", range.lt), ("gt", range.gt), ("gte", range.gte), ("lte", range.lte)];
        put("range", bounds(times, |time| Ok(Json::String(time.to_string())))?);
    }
    if let Some(count) = field.values_count {
        let counts = [("lt", count.lt), ("gt", count.gt), ("gte", count.gte), ("lte", count.lte)];
        put("values_count", bounds(counts, |count| Ok(json!(count)))?);
    }
    if let Some(flag) = field.is_empty {
        put("is_empty", Json::Bool(flag));
    }
    if let Some(flag) = field.is_null {
        put("is_null", Json::Bool(flag));
    }
    if conditions == 0 {
        return Err(wrong_input("a field condition needs a match, a range or another condition"));
    }
    Ok(Json::Object(clause))
}

fn bounds<T, const N: usize>(
    bounds: [(&str, Option<T>); N],
    write: impl Fn(T) -> Result<Json, Status>,
) -> Result<Json, Status> {
    let mut range = Map::new();
    for (name, bound) in bounds {
        if let Some(bound) = bound {
            range.insert(name.to_owned(), write(bound)?);
        }
    }
    if range.is_empty() { Err(wrong_input("a range needs a bound")) } else { Ok(Json::Object(range)) }
}

fn match_value(found: grpc::Match) -> Result<Json, Status> {
    match found.match_value {
        Some(MatchValue::Keyword(text)) => Ok(json!({ "value": text })),
        Some(MatchValue::Integer(number)) => Ok(json!({ "value": number })),
        Some(MatchValue::Boolean(flag)) => Ok(json!({ "value": flag })),
        Some(MatchValue::Keywords(any)) => Ok(json!({ "any": any.strings })),
        Some(MatchValue::Integers(any)) => Ok(json!({ "any": any.integers })),
        Some(MatchValue::ExceptKeywords(except)) => Ok(json!({ "except": except.strings })),
        Some(MatchValue::ExceptIntegers(except)) => Ok(json!({ "except": except.integers })),
        Some(MatchValue::Text(_) | MatchValue::Phrase(_) | MatchValue::TextAny(_)) => Err(unserved("text match")),
        Some(MatchValue::Prefix(_)) => Err(unserved("prefix match")),
        Some(MatchValue::Substring(_)) => Err(unserved("substring match")),
        None => Err(wrong_input("a match needs a value")),
    }
}

fn unserved(what: &str) -> Status {
    wrong_input(format!("the local Qdrant does not serve the {what} condition"))
}
