//! Filters, queries, pages.

use qdrant_client::qdrant::{
    DatetimeRange, GetPointsBuilder, IsEmptyCondition, MinShould, NestedCondition, PayloadIncludeSelector,
    PrefetchQueryBuilder, QueryPointsBuilder, Range, SearchPointsBuilder, Struct, Value, ValuesCount,
    r#match::MatchValue, value::Kind, with_payload_selector::SelectorOptions,
};
use uuid::Uuid;

use super::*;

async fn gallery() -> (tempfile::TempDir, LocalQdrant, Qdrant) {
    let (dir, server, client) = fresh().await;
    let tags = |tags: &[&str]| Value::from(tags.iter().map(|tag| Value::from(*tag)).collect::<Vec<Value>>());
    let part = |name: &str, size: i64| {
        let fields =
            std::collections::HashMap::from([("name".to_owned(), name.into()), ("size".to_owned(), size.into())]);
        Value { kind: Some(Kind::StructValue(Struct { fields })) }
    };
    let null = Value { kind: Some(Kind::NullValue(0)) };
    upsert(
        &client,
        vec![
            point(1, vec![("who", "ann".into()), ("age", 30.into()), ("ok", true.into()), ("score", 0.5.into())]),
            point(
                2,
                vec![("who", "bob".into()), ("age", 40.into()), ("ok", false.into()), ("tags", tags(&["x", "y"]))],
            ),
            point(3, vec![("who", "ann".into()), ("at", "2026-01-02T03:04:05Z".into()), ("tags", tags(&["y"]))]),
            point(4, vec![("who", null), ("parts", vec![part("a", 1), part("b", 2)].into())]),
            point(5, vec![("parts", vec![part("a", 2)].into())]),
        ],
    )
    .await;
    (dir, server, client)
}

#[tokio::test]
async fn every_served_condition_selects_what_it_says() {
    let (_dir, server, client) = gallery().await;
    let c = &client;
    assert_eq!(with(c, Condition::matches("who", "ann".to_owned())).await, [1, 3]);
    assert_eq!(with(c, Condition::matches("age", 40)).await, [2]);
    assert_eq!(with(c, Condition::matches("ok", false)).await, [2]);
    assert_eq!(with(c, Condition::matches("who", vec!["ann".to_owned(), "bob".to_owned()])).await, [1, 2, 3]);
    assert_eq!(with(c, Condition::matches("age", vec![30, 50])).await, [1]);
    assert_eq!(with(c, Condition::matches("who", !MatchValue::from(vec!["ann".to_owned()]))).await, [2]);
    assert_eq!(with(c, Condition::range("age", Range { gt: Some(30.0), ..Range::default() })).await, [2]);
    assert_eq!(
        with(c, Condition::range("score", Range { gte: Some(0.5), lte: Some(0.5), ..Range::default() })).await,
        [1]
    );
    let day = |day: u32| DatetimeRange { gte: Some(prost_timestamp(day)), ..DatetimeRange::default() };
    assert_eq!(with(c, Condition::datetime_range("at", day(2))).await, [3]);
    assert_eq!(with(c, Condition::datetime_range("at", day(3))).await, [0_u64; 0]);
    assert_eq!(with(c, Condition::has_id([2, 5, 9])).await, [2, 5]);
    assert_eq!(with(c, IsEmptyCondition { key: "who".to_owned() }).await, [4, 5]);
    assert_eq!(with(c, Condition::is_null("who")).await, [4]);
    assert_eq!(
        with(c, Condition::values_count("tags", ValuesCount { gte: Some(2), ..ValuesCount::default() })).await,
        [2]
    );
    let nested = Filter::must([Condition::matches("name", "a".to_owned()), Condition::matches("size", 2)]);
    assert_eq!(with(c, NestedCondition { key: "parts".to_owned(), filter: Some(nested) }).await, [5]);
    let ann = || Condition::matches("who", "ann".to_owned());
    let adult = || Condition::range("age", Range { gte: Some(18.0), ..Range::default() });
    assert_eq!(matching(c, Filter::should([ann(), adult()])).await.unwrap(), [1, 2, 3]);
    assert_eq!(matching(c, Filter::must_not([ann()])).await.unwrap(), [2, 4, 5]);
    let both = MinShould { conditions: vec![ann(), adult(), Condition::matches("ok", true)], min_count: 2 };
    assert_eq!(matching(c, Filter { min_should: Some(both), ..Filter::default() }).await.unwrap(), [1]);
    assert_eq!(with(c, Filter { must_not: vec![ann()], must: vec![adult()], ..Filter::default() }).await, [2]);
    server.shutdown().await;
}

/// Midnight of a day of January 2026.
fn prost_timestamp(day: u32) -> qdrant_client::qdrant::Timestamp {
    qdrant_client::qdrant::Timestamp { seconds: 1_767_225_600 + i64::from(day - 1) * 86_400, nanos: 0 }
}

#[tokio::test]
async fn a_condition_that_is_not_served_is_never_dropped() {
    let (_dir, server, client) = gallery().await;
    let text = Condition::matches_text("who", "an");
    let empty = Condition { condition_one_of: None };
    let nan = Condition::range("age", Range { gt: Some(f64::NAN), ..Range::default() });
    let boundless = Condition::range("age", Range::default());
    let vector = Condition::from(qdrant_client::qdrant::HasVectorCondition { has_vector: String::new() });
    for condition in [text, empty, nan, boundless, vector] {
        let refused = matching(&client, Filter::must([condition.clone()])).await;
        assert_eq!(code(refused).0, Code::InvalidArgument, "{condition:?}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn queries_honour_limit_offset_threshold_and_selectors() {
    let (_dir, server, client) = gallery().await;
    let query = || QueryPointsBuilder::new(NAME).query(vec![1.0, 3.0, 0.5, -1.0]);
    let ids = |answer: qdrant_client::qdrant::QueryResponse| -> Vec<u64> {
        answer.result.into_iter().map(|point| number(point.id)).collect()
    };
    assert_eq!(ids(client.query(query()).await.unwrap()), [3, 4, 5, 2, 1]);
    assert_eq!(ids(client.query(query().limit(2).offset(1)).await.unwrap()), [4, 5]);
    let filter = Filter::must([Condition::has_id([1, 2])]);
    assert_eq!(ids(client.query(query().filter(filter)).await.unwrap()), [2, 1]);
    let who = SelectorOptions::Include(PayloadIncludeSelector { fields: vec!["who".to_owned()] });
    let near = client.query(query().score_threshold(0.9999).with_vectors(true).with_payload(who)).await.unwrap();
    let [point] = near.result.try_into().unwrap();
    assert_eq!(number(point.id), 3);
    assert_eq!(point.payload.keys().collect::<Vec<_>>(), ["who"]);
    let norm: f32 = match point.vectors.unwrap().get_vector().unwrap() {
        qdrant_client::qdrant::vector_output::Vector::Dense(dense) => dense.data.iter().map(|x| x * x).sum(),
        _ => panic!("not dense"),
    };
    assert!((norm - 1.0).abs() < 1e-5);
    let older = client.search_points(SearchPointsBuilder::new(NAME, vec![1.0, 3.0, 0.5, -1.0], 1)).await.unwrap();
    assert_eq!((number(older.result[0].id.clone()), older.result[0].payload.len()), (3, 0));

    let wrong = client.query(QueryPointsBuilder::new(NAME).query(vec![1.0; 3])).await;
    let text = "Wrong input: Vector dimension error: expected dim: 4, got 3";
    assert_eq!(code(wrong), (Code::InvalidArgument, text.to_owned()));
    assert_eq!(code(client.query(query().limit(0)).await).0, Code::InvalidArgument);
    assert_eq!(code(client.query(query().using("named")).await).0, Code::InvalidArgument);
    let prefetch = query().add_prefetch(PrefetchQueryBuilder::default().query(vec![1.0; 4]));
    assert_eq!(code(client.query(prefetch).await).0, Code::InvalidArgument);
    assert_eq!(code(client.query(QueryPointsBuilder::new("nowhere").query(vec![1.0; 4])).await).0, Code::NotFound);
    server.shutdown().await;
}

#[tokio::test]
async fn ids_are_numbers_or_uuids_and_pages_follow_their_order() {
    let (_dir, server, client) = fresh().await;
    let uuid = |n: u128| Uuid::from_u128(n << 64).to_string();
    let mut points: Vec<_> = (1..=5).rev().map(|n| PointStruct::new(n, vec![0.5; 4], Payload::new())).collect();
    points.extend((1..=5).rev().map(|n| PointStruct::new(uuid(n), vec![0.5; 4], Payload::new())));
    upsert(&client, points).await;
    let (mut seen, mut offset) = (Vec::new(), None);
    loop {
        let mut page = ScrollPointsBuilder::new(NAME).limit(3);
        if let Some(offset) = offset {
            page = page.offset::<qdrant_client::qdrant::PointId>(offset);
        }
        let answer = client.scroll(page).await.unwrap();
        seen.extend(answer.result.into_iter().map(|point| point.id.unwrap().point_id_options.unwrap()));
        offset = answer.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    let expected = (1..=5).map(PointIdOptions::Num).chain((1..=5).map(|n| PointIdOptions::Uuid(uuid(n))));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let wanted = vec![3.into(), uuid(9).into(), uuid(2).into()];
    let got = client.get_points(GetPointsBuilder::new(NAME, wanted)).await.unwrap().result;
    assert_eq!(got.len(), 2);
    let nonsense = vec!["no uuid".into()];
    assert_eq!(code(client.get_points(GetPointsBuilder::new(NAME, nonsense)).await).0, Code::InvalidArgument);
    server.shutdown().await;
}
