//! A collection as lines: everybody, every face, and the same lines from wherever an export is gone on with.

use facewire_gallery::export::{Export, Page, Place, Sum};
use facewire_store_pg::Store;
use serde_json::Value;

use crate::support::{World, by, office, person};

/// From this place to the end, line by line.
async fn from(store: &Store, export: &Export, mut place: Place) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    while let Some(Page { lines, next }) = export.page(store, &place).await.unwrap() {
        texts.extend(lines.iter().map(|line| line.text().unwrap()));
        place = next;
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_behind_each_of_its_lines() {
    let world = World::new().await;
    let store = &world.gallery.store;
    world.enrolled(&[("a", 0.0), ("a", 20.0), ("b", 60.0), ("c", 120.0)]).await;
    world.gallery.merge(person("c"), person("b"), &by()).await.unwrap().unwrap();
    let export = Export { collection: office(), vectors: true };
    let lines = from(store, &export, Place::default()).await;
    let read: Vec<Value> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let types: Vec<&str> = read.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["person", "person", "person", "face", "face", "face", "face", "end"]);
    assert_eq!((&read[7]["persons"], &read[7]["faces"]), (&Value::from(3), &Value::from(4)));
    assert!(read[3..7].iter().all(|face| face["embedding"].as_array().unwrap().len() == 8));

    let mut sum = Sum::default();
    for (at, line) in lines.iter().enumerate() {
        match types[at] {
            "person" => sum.persons += 1,
            "face" => sum.faces += 1,
            _ => {}
        }
        let place = Place::behind(line.trim_ascii_end(), sum).unwrap();
        assert!(from(store, &export, place).await == lines[at + 1..], "behind line {at}");
    }
    let without = from(store, &Export { vectors: false, ..export }, Place::default()).await;
    assert!(without.iter().all(|line| !String::from_utf8_lossy(line).contains("embedding")));
    world.end().await;
}
