//! The labelled embeddings that are trained on, checked once.

use std::collections::BTreeMap;

use facewire_clustering::NORM_TOLERANCE;

use crate::error::TrainError;
use crate::matrix::squared_norm;

/// Embeddings and whose each is. Which faces take part, by quality or by collection, is the caller's business.
#[derive(Clone, PartialEq)]
pub struct Faces {
    dim: usize,
    values: Vec<f32>,
    people: Vec<u32>,
}

impl std::fmt::Debug for Faces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faces").field("dim", &self.dim).field("faces", &self.people.len()).finish_non_exhaustive()
    }
}

/// A person's faces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) person: u32,
    /// Rows, ascending.
    pub(crate) rows: Vec<usize>,
}

impl Faces {
    /// Takes n × `dim` numbers, row-major and L2-normalised, and n people: indices of a list of the caller.
    ///
    /// # Errors
    /// `dim` is 0 or does not divide the length, another number of people, or a row that is not finite or has another norm
    /// than 1.
    pub fn new(dim: usize, values: Vec<f32>, people: Vec<u32>) -> Result<Self, TrainError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(TrainError::Shape { len: values.len(), dim });
        }
        let faces = values.len() / dim;
        if people.len() != faces {
            return Err(TrainError::Labels { people: people.len(), faces });
        }
        let unit = |row: &[f32]| (squared_norm(row).sqrt() - 1.0).abs() <= NORM_TOLERANCE;
        if let Some(row) = values.chunks_exact(dim).position(|row| !unit(row)) {
            return Err(TrainError::Row { row });
        }
        Ok(Self { dim, values, people })
    }

    /// Faces.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// No face.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whose each face is.
    pub fn people(&self) -> &[u32] {
        &self.people
    }

    /// One embedding; empty past the end.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row.saturating_mul(self.dim);
        self.values.get(start..start.saturating_add(self.dim)).unwrap_or_default()
    }

    /// The faces of these people who have any, in the order of the people.
    pub(crate) fn groups(&self, people: &[u32]) -> Vec<Group> {
        let all = self.by_person();
        let group = |person: &u32| Some(Group { person: *person, rows: all.get(person)?.clone() });
        people.iter().filter_map(group).collect()
    }

    /// Every person's rows, ascending.
    pub(crate) fn by_person(&self) -> BTreeMap<u32, Vec<usize>> {
        let mut all: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, person) in self.people.iter().enumerate() {
            all.entry(*person).or_default().push(row);
        }
        all
    }

    /// `out` becomes these rows, one after another.
    pub(crate) fn gather(&self, rows: &[usize], out: &mut Vec<f32>) {
        out.clear();
        rows.iter().for_each(|row| out.extend_from_slice(self.row(*row)));
    }

    /// Tells whether two sets of faces are the same in every bit. It is no protection against somebody who wants a collision.
    pub(crate) fn digest(&self) -> u64 {
        let mix = |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
        let shape = mix(mix(0, self.dim as u64), self.people.len() as u64);
        let people = self.people.iter().fold(shape, |hash, person| mix(hash, u64::from(*person)));
        self.values.iter().fold(people, |hash, value| mix(hash, u64::from(value.to_bits())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_are_no_labelled_unit_rows_is_refused() {
        assert_eq!(Faces::new(0, vec![1.0], vec![1]), Err(TrainError::Shape { len: 1, dim: 0 }));
        assert_eq!(Faces::new(2, vec![1.0; 3], vec![1]), Err(TrainError::Shape { len: 3, dim: 2 }));
        assert_eq!(Faces::new(1, vec![1.0], vec![]), Err(TrainError::Labels { people: 0, faces: 1 }));
        assert_eq!(Faces::new(1, vec![1.0, f32::NAN], vec![1, 2]), Err(TrainError::Row { row: 1 }));
        assert_eq!(Faces::new(1, vec![f32::INFINITY], vec![1]), Err(TrainError::Row { row: 0 }));
        assert_eq!(Faces::new(2, vec![1.0, 1.0], vec![1]), Err(TrainError::Row { row: 0 }));
        assert!(Faces::new(2, vec![], vec![]).unwrap().is_empty());
    }

    #[test]
    fn faces_are_found_by_person_and_told_apart() {
        let faces = Faces::new(2, vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0], vec![9, 4, 9]).unwrap();
        let groups = faces.groups(&[9, 5, 4]);
        assert_eq!(groups, [Group { person: 9, rows: vec![0, 2] }, Group { person: 4, rows: vec![1] }]);
        let mut rows = vec![7.0];
        faces.gather(&[2, 1], &mut rows);
        assert_eq!(rows, [-1.0, 0.0, 0.0, 1.0]);
        assert!(faces.row(3).is_empty() && faces.row(usize::MAX).is_empty());
        let other =
            |values: [f32; 6], people: [u32; 3]| Faces::new(2, values.to_vec(), people.to_vec()).unwrap().digest();
        assert_eq!(other([1.0, 0.0, 0.0, 1.0, -1.0, 0.0], [9, 4, 9]), faces.digest());
        assert_ne!(other([1.0, 0.0, 0.0, 1.0, -1.0, -0.0], [9, 4, 9]), faces.digest());
        assert_ne!(other([1.0, 0.0, 0.0, 1.0, -1.0, 0.0], [9, 4, 4]), faces.digest());
        assert_ne!(other([0.0, 1.0, 1.0, 0.0, -1.0, 0.0], [9, 4, 9]), faces.digest());
    }

    #[test]
    fn no_embedding_is_printed() {
        let faces = Faces::new(1, vec![1.0, 1.0], vec![3, 4]).unwrap();
        assert_eq!(format!("{faces:?}"), "Faces { dim: 1, faces: 2, .. }");
    }
}
