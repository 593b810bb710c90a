//! The generator whose draws are the same on every machine and in every release: for whatever resamples, shuffles or begins with
//! random weights and has to come to the same result again.

/// SplitMix64 (Steele, Lea and Flood 2014): one number of state, which a checkpoint can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// From a seed, or from what [`SplitMix64::state`] gave.
    pub fn new(state: u64) -> Self {
        Self(state)
    }

    /// Draw `k`, counted from 0, of a seed: for an order that needs no state.
    pub fn nth(seed: u64, k: u64) -> u64 {
        mixed(seed.wrapping_add(k.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// What [`SplitMix64::new`] goes on from.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// 0 to `n` − 1, 0 for 0; the bias of the multiplication is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.draw()) * n as u128) >> 64) as usize
    }
}

/// 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs of the reference implementation for the seed 1234567.
        let known: [u64; 3] = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!([random.draw(), random.draw(), random.draw()], known);
        assert_eq!([0, 1, 2].map(|k| SplitMix64::nth(1_234_567, k)), known);
        let mut on = SplitMix64::new(random.state());
        assert_eq!(on.draw(), random.draw());
        assert_eq!(random.below(0), 0);
    }
}
