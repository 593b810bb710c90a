//! Everybody and every face of a collection as lines of JSON, page by page: persons by name, then faces by id, then a line with their
//! numbers. One page of rows is in memory at a time. Where the lines go, and that they are kept, is not known here.

use facewire_domain::{CollectionId, FaceId};
use facewire_store_pg::{Store, StoreError, StoredFace};
use serde::{Deserialize, Serialize};

use crate::views::{KeptFace, Person};

/// Rows of a page.
const PAGE: u32 = 500;

/// A line of an export.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// Somebody, also who was merged into another.
    Person(Person),
    /// A face.
    Face(Exported),
    /// The last line: an export without it is not whole.
    End(Sum),
}

/// A face, with its embedding where that was asked for. No `Debug`: an embedding is biometric.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exported {
    #[serde(flatten)]
    face: KeptFace,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

/// How much there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sum {
    /// Persons.
    pub persons: u64,
    /// Faces.
    pub faces: u64,
}

impl Sum {
    /// With one line more.
    pub fn and(self, line: &Line) -> Self {
        match line {
            Line::Person(_) => Self { persons: self.persons + 1, ..self },
            Line::Face(_) => Self { faces: self.faces + 1, ..self },
            Line::End(_) => self,
        }
    }
}

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Whose persons and faces.
    pub collection: CollectionId,
    /// With the embeddings of the faces.
    pub vectors: bool,
}

/// Where an export goes on, and what it has had by then. By default at its beginning.
#[derive(Clone, Default)]
pub struct Place {
    next: Next,
    sum: Sum,
}

#[derive(Clone)]
enum Next {
    /// The persons after this name.
    Persons(Option<String>),
    /// The faces after this one.
    Faces(Option<FaceId>),
    End,
    Nothing,
}

impl Default for Next {
    fn default() -> Self {
        Self::Persons(None)
    }
}

/// What the last line of a part says of the place behind it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Last {
    Person { name: String },
    Face { id: FaceId },
    End,
}

impl Place {
    /// Behind this line, to which there were so many persons and faces; `None` where it is no line of an export.
    pub fn behind(line: &[u8], sum: Sum) -> Option<Self> {
        let next = match serde_json::from_slice(line).ok()? {
            Last::Person { name } => Next::Persons(Some(name)),
            Last::Face { id } => Next::Faces(Some(id)),
            Last::End => Next::Nothing,
        };
        Some(Self { next, sum })
    }

    /// What the export has had by here.
    pub fn sum(&self) -> Sum {
        self.sum
    }
}

/// Lines, and where the next ones begin.
pub struct Page {
    /// The lines.
    pub lines: Vec<Line>,
    /// Behind them.
    pub next: Place,
}

impl Export {
    /// The lines from this place on; none behind the end. What changes meanwhile may be in it or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, store: &Store, place: &Place) -> Result<Option<Page>, StoreError> {
        let (lines, next): (Vec<Line>, Next) = match &place.next {
            Next::Persons(after) => {
                let page = store.persons_list(&self.collection, after.as_deref(), PAGE).await?;
                let last = page.last().filter(|_| is_full(page.len())).map(|last| last.person.name.clone());
                let next = last.map_or(Next::Faces(None), |last| Next::Persons(Some(last)));
                (page.into_iter().map(|person| Line::Person(person.into())).collect(), next)
            }
            Next::Faces(after) => {
                let page = store.collection_faces(&self.collection, *after, PAGE).await?;
                let last = page.last().filter(|_| is_full(page.len())).map(|last| last.record.face);
                let next = last.map_or(Next::End, |last| Next::Faces(Some(last)));
                (page.into_iter().map(|face| self.line(face)).collect(), next)
            }
            Next::End => (vec![Line::End(place.sum)], Next::Nothing),
            Next::Nothing => return Ok(None),
        };
        let sum = lines.iter().fold(place.sum, Sum::and);
        Ok(Some(Page { lines, next: Place { next, sum } }))
    }

    fn line(&self, face: StoredFace) -> Line {
        let embedding = self.vectors.then_some(face.embedding);
        Line::Face(Exported { face: face.record.into(), embedding })
    }
}

fn is_full(rows: usize) -> bool {
    rows as u64 == u64::from(PAGE)
}

impl Line {
    /// Its text, with the end of the line.
    ///
    /// # Errors
    /// A value that JSON cannot say, which the rows hold none of.
    pub fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

impl Page {
    /// The text of its lines.
    ///
    /// # Errors
    /// As [`Line::text`].
    pub fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut all = Vec::new();
        for line in &self.lines {
            all.extend(line.text()?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_behind_the_last_line_of_a_part() {
        let sum = Sum { persons: 2, faces: 1 };
        let behind = |line: &str| Place::behind(line.as_bytes(), sum).map(|place| place.next);
        let face = "00000000-0000-8000-8000-000000000001";
        assert!(
            matches!(behind(r#"{"type":"person","name":"Ada","id":"x"}"#), Some(Next::Persons(Some(name))) if name == "Ada")
        );
        let line = format!(r#"{{"type":"face","id":"{face}","personId":null}}"#);
        assert!(matches!(behind(&line), Some(Next::Faces(Some(id))) if id.to_string() == face));
        assert!(matches!(behind(r#"{"type":"end","persons":2,"faces":1}"#), Some(Next::Nothing)));
        for wrong in ["", "{}", r#"{"type":"face","id":"7"}"#, r#"{"type":"person","na"#] {
            assert!(behind(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_last_line_is_written_as_it_is_read() {
        let end = Line::End(Sum { persons: 2, faces: 5 }).text().unwrap();
        assert_eq!(end, b"{\"type\":\"end\",\"persons\":2,\"faces\":5}\n");
        let place = Place::behind(&end, Sum { persons: 2, faces: 5 }).unwrap();
        assert_eq!((place.sum(), matches!(place.next, Next::Nothing)), (Sum { persons: 2, faces: 5 }, true));
    }
}
