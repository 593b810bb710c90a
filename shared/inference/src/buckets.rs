//! Sizes of runs on a GPU. CUDA and TensorRT plan a model anew for every number of images that they have not seen, which
//! takes longer than many runs: so a run is filled up to one of a few sizes, each of which was tried before the first face.

/// Images of a run, unless the pack says others.
const SIZES: [usize; 5] = [1, 4, 16, 32, 64];

/// The sizes, ascending; the last is the most that a run takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Buckets(Vec<usize>);

impl Buckets {
    /// These sizes, or the usual ones where there are none, as far as they are below `most`; then `most` itself.
    pub(crate) fn new(sizes: &[usize], most: usize) -> Self {
        let sizes: &[usize] = if sizes.is_empty() { &SIZES } else { sizes };
        let below = sizes.iter().copied().filter(|size| (1..most).contains(size));
        let mut buckets: Vec<usize> = below.chain([most.max(1)]).collect();
        buckets.sort_unstable();
        buckets.dedup();
        Self(buckets)
    }

    /// The smallest that so many images fit in.
    pub(crate) fn fit(&self, images: usize) -> usize {
        self.0.iter().copied().find(|size| *size >= images).unwrap_or(images)
    }

    /// All of them.
    pub(crate) fn sizes(&self) -> &[usize] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_the_smallest_size_that_fits() {
        let buckets = Buckets::new(&[], 64);
        assert_eq!(buckets.sizes(), SIZES);
        for (images, size) in [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 32), (33, 64), (64, 64)] {
            assert_eq!(buckets.fit(images), size, "{images}");
        }
    }

    #[test]
    fn no_size_is_beyond_what_a_run_takes_and_the_most_is_one() {
        assert_eq!(Buckets::new(&[], 32).sizes(), [1, 4, 16, 32]);
        assert_eq!(Buckets::new(&[], 24).sizes(), [1, 4, 16, 24]);
        assert_eq!(Buckets::new(&[], 1).sizes(), [1]);
        assert_eq!(Buckets::new(&[], 128).sizes(), [1, 4, 16, 32, 64, 128]);
        assert_eq!(Buckets::new(&[8, 2], 64).sizes(), [2, 8, 64], "the pack's own");
        assert_eq!(Buckets::new(&[8, 2], 64).fit(3), 8);
    }
}
