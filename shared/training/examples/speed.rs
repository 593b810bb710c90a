//! How long a training of made-up people takes: PCA and the first measure, and so many epochs. Takes the number of faces and of epochs.
//!
//!     cargo run --release -p facewire-training --example speed -- 2000 50
//!
//! `speed.py` beside it does the same arithmetic in `PyTorch`, as many steps and measures, and says so in the same last line.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

use std::error::Error;
use std::time::Instant;

use facewire_training::{Faces, Run, Settings, Trainer};

/// Faces of a person.
const EACH: usize = 10;
/// A training runs on its caller's thread alone.
const THREADS: usize = 1;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
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

/// People in one half of the numbers, and pictures in the other, so that no epoch is without triplets to learn from.
fn made_up(count: usize, dim: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random(1);
    let (mut values, mut people, mut centre) = (Vec::with_capacity(count * dim), Vec::new(), Vec::new());
    for face in 0..count {
        if face.is_multiple_of(EACH) {
            centre = (0..dim / 2).map(|_| random.normal()).collect();
        }
        let own = centre.iter().map(|value| value + 0.5 * random.normal()).collect::<Vec<f32>>();
        let raw: Vec<f32> = own.into_iter().chain((dim / 2..dim).map(|_| 1.5 * random.normal())).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        values.extend(raw.iter().map(|x| x / norm));
        people.push((face / EACH) as u32);
    }
    (values, people)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1).map_while(|argument| argument.parse::<usize>().ok());
    let (count, epochs) = (given.next().unwrap_or(2000), given.next().unwrap_or(50) as u32);
    let settings = Settings { epochs, patience: epochs, ..Settings::default() };
    let (values, people) = made_up(count, settings.shape.input);
    let faces = Faces::new(settings.shape.input, values, people)?;
    let started = Instant::now();
    let mut trainer = Trainer::new(faces, settings)?;
    let prepared = started.elapsed().as_secs_f64();
    let (started, mut steps) = (Instant::now(), 0);
    while trainer.finished().is_none() {
        let report = trainer.epoch(&Run::simple())?;
        steps += report.steps;
        let (rate, improved) = (100.0 * report.validation.rate, if report.improved { "  best" } else { "" });
        println!("epoch {:3}  loss {:.4}  validation {rate:5.1} %{improved}", report.epoch, report.loss);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("before: PCA and the first measure {prepared:.2} s");
    println!(
        "validation: PCA {:.1} %, best {:.1} %",
        100.0 * trainer.pca_measure().rate,
        100.0 * trainer.best_measure().rate
    );
    let each = 1e3 * seconds / steps as f64;
    println!(
        "{count} faces, {epochs} epochs, {steps} steps, threads: {THREADS}, seconds: {seconds:.2}, ms a step: {each:.3}"
    );
    Ok(())
}
