//! The generator of everything that is drawn: one number of state, which a checkpoint holds.

use facewire_clustering::SplitMix64;

/// SplitMix64, and what training draws with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(state: u64) -> Self {
        Self(SplitMix64::new(state))
    }

    /// A generator of its own for a purpose, from a seed that several purposes share.
    pub(crate) fn of(seed: u64, purpose: u64) -> Self {
        let mut random = Self::new(seed ^ purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self::new(random.draw())
    }

    /// What [`Random::new`] goes on from.
    pub(crate) fn state(&self) -> u64 {
        self.0.state()
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// 0 to `n` − 1, 0 for 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    /// From 0 up to 1, in steps of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Near a normal distribution of mean 0 and deviation 1: the sum of twelve.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Every order is as likely.
    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_goes_on_from_its_state() {
        let mut random = Random::new(1_234_567);
        random.draw();
        let mut on = Random::new(random.state());
        assert_eq!(on.draw(), random.draw());
    }

    #[test]
    fn purposes_draw_apart_and_numbers_are_in_range() {
        assert_ne!(Random::of(7, 1), Random::of(7, 2));
        assert_ne!(Random::of(7, 1), Random::of(8, 1));
        let mut random = Random::of(7, 1);
        assert_eq!(random.below(0), 0);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|count| (150..250).contains(count)), "{seen:?}");
        let draws: Vec<f64> = (0..1000).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!(mean.abs() < 0.15 && (variance - 1.0).abs() < 0.2, "{mean} {variance}");
    }

    #[test]
    fn a_shuffle_keeps_what_there_is() {
        let mut values: Vec<u32> = (0..100).collect();
        Random::new(3).shuffle(&mut values);
        assert!(!values.is_sorted());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<u32>>());
    }
}
