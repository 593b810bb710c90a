//! Made-up rows, the same in `tests/golden/make.py`: for tests alone.

/// SplitMix64 by counter: draw `k` of a seed is a function of both.
pub(crate) fn draw(seed: u64, k: u64) -> u64 {
    let z = seed.wrapping_add((k + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 0 to 1, in steps of 2^-24.
pub(crate) fn uniform(seed: u64, k: u64) -> f64 {
    (draw(seed, k) >> 40) as f64 / f64::from(1u32 << 24)
}

/// Near a normal distribution of mean 0 and deviation 1: the exact sum of twelve.
pub(crate) fn normal(seed: u64, k: u64) -> f64 {
    (0..12).map(|i| uniform(seed, 12 * k + i)).sum::<f64>() - 6.0
}

/// Appends `raw` at the length 1.
pub(crate) fn push_unit(rows: &mut Vec<f32>, raw: &[f64]) {
    let norm = raw.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
    rows.extend(raw.iter().map(|x| (x / norm) as f32));
}

/// Groups of these sizes around random directions; `spread` is the length of the noise beside a unit centre.
pub(crate) fn groups(sizes: &[usize], dim: usize, spread: f64, seed: u64) -> Vec<f32> {
    let mut rows = Vec::new();
    let mut k = 0;
    for size in sizes {
        let centre: Vec<f64> = (0..dim).map(|i| normal(seed, k + i as u64)).collect();
        k += dim as u64;
        for _ in 0..*size {
            let raw: Vec<f64> = centre.iter().zip(k..).map(|(c, k)| c + spread * normal(seed, k)).collect();
            k += dim as u64;
            push_unit(&mut rows, &raw);
        }
    }
    rows
}
