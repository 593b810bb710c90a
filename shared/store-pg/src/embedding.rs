//! Embeddings as they lie in rows: little-endian 32 bit floats, one after the other.

/// The bytes of an embedding; `None` where it is empty or holds anything that is not a finite number.
pub(crate) fn to_bytes(embedding: &[f32]) -> Option<Vec<u8>> {
    if embedding.is_empty() || embedding.iter().any(|number| !number.is_finite()) {
        return None;
    }
    Some(embedding.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// The numbers of an embedding; `None` where the bytes are not whole numbers, or not finite ones.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    (rest.is_empty() && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_pass() {
        let embedding = [0.25, -1.0, f32::MIN_POSITIVE];
        assert_eq!(from_bytes(&to_bytes(&embedding).unwrap()).unwrap(), embedding);
        for bad in [&[f32::NAN][..], &[1.0, f32::INFINITY], &[]] {
            assert_eq!(to_bytes(bad), None);
        }
        assert_eq!(from_bytes(&[0, 0, 0]), None);
        assert_eq!(from_bytes(&f32::NAN.to_le_bytes()), None);
    }
}
