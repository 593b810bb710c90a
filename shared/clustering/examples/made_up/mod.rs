//! Made-up people, the same in every run, and the memory of this process: what the examples share. `scale` can write the rows
//! to a file, for other programs.

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Near normal: four draws of 16 bits from one of 64.
    fn normal(&mut self) -> f32 {
        let draw = self.draw();
        let parts = [0, 16, 32, 48].map(|shift| ((draw >> shift) & 0xFFFF) as f32 / 65_536.0);
        (parts.iter().sum::<f32>() - 2.0) * 1.732
    }
}

/// Rows of people with 1 to twice the mean of faces, one person after another, a tenth of the faces nobody else's; and whose
/// each is. Two faces of a person have a cosine of 0.4 to 0.8, two of different people one of 0 ± 0.04 or so. Fewer faces are
/// the first ones of more.
pub(crate) fn faces(count: usize, mean: usize, dim: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random(1);
    let (mut rows, mut people, mut person) = (Vec::with_capacity(count * dim), Vec::with_capacity(count), 0);
    while people.len() < count {
        let centre: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
        let alone = random.draw().is_multiple_of(10);
        let size = if alone { mean } else { 1 + random.draw() as usize % (2 * mean) };
        let spread = 0.5 + (random.draw() % 700) as f32 / 1000.0;
        for _ in 0..size.min(count - people.len()) {
            let noise: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
            let own = centre.iter().zip(noise).map(|(c, noise)| if alone { noise } else { c + spread * noise });
            push_unit(&mut rows, own);
            person += u32::from(alone);
            people.push(person);
        }
        person += 1;
    }
    (rows, people)
}

fn push_unit(rows: &mut Vec<f32>, raw: impl Iterator<Item = f32>) {
    let first = rows.len();
    rows.extend(raw);
    let Some(row) = rows.get_mut(first..) else { return };
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
}

/// The most memory that this process has had, MB.
pub(crate) fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

/// The numbers of the command line, or these defaults.
pub(crate) fn numbers<const N: usize>(defaults: [usize; N]) -> [usize; N] {
    let mut given = std::env::args().skip(1).map_while(|argument| argument.parse().ok());
    defaults.map(|default| given.next().unwrap_or(default))
}
