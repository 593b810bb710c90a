//! The rows of `tests/golden/make.py`.

use serde_json::Value;

use crate::testing::{draw, groups, normal, push_unit, uniform};

fn number(part: &Value, key: &str) -> f64 {
    part[key].as_f64().unwrap_or_else(|| panic!("{key} in {part}"))
}

fn count(part: &Value, key: &str) -> usize {
    number(part, key) as usize
}

fn seed(part: &Value) -> u64 {
    part["seed"].as_u64().unwrap()
}

fn sizes(part: &Value, key: &str) -> Vec<usize> {
    part[key].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect()
}

/// The rows of a set, one part after the other.
pub(crate) fn rows_of(dim: usize, parts: &[Value]) -> Vec<f32> {
    let mut rows = Vec::new();
    for part in parts {
        match part["kind"].as_str().unwrap() {
            "groups" => rows.extend(groups(&sizes(part, "sizes"), dim, number(part, "spread"), seed(part))),
            "nested" => nested(&mut rows, dim, part),
            "arc" => arc(&mut rows, dim, part),
            "moons" => moons(&mut rows, dim, part),
            "copies" => {
                for i in 0..count(part, "rows") as u64 {
                    let row = draw(seed(part), i) as usize % count(part, "of");
                    rows.extend_from_within(row * dim..(row + 1) * dim);
                }
            }
            kind => panic!("no part {kind}"),
        }
    }
    rows
}

fn nested(rows: &mut Vec<f32>, dim: usize, part: &Value) {
    let centres = groups(&sizes(part, "centres"), dim, number(part, "apart"), seed(part));
    let mut k = 0..;
    for centre in centres.chunks(dim) {
        for _ in 0..count(part, "rows") {
            let noise = || number(part, "spread") * normal(seed(part) + 1, k.next().unwrap());
            let noise: Vec<f64> = std::iter::repeat_with(noise).take(dim).collect();
            let raw: Vec<f64> = centre.iter().zip(noise).map(|(c, noise)| f64::from(*c) + noise).collect();
            push_unit(rows, &raw);
        }
    }
}

fn curve(rows: &mut Vec<f32>, dim: usize, part: &Value, points: impl Iterator<Item = [f64; 2]>) {
    for (i, [x, y]) in points.enumerate() {
        let noise = |k: usize| number(part, "noise") * normal(seed(part) + 1, (i * dim + k) as u64);
        let mut raw: Vec<f64> = (0..dim).map(noise).collect();
        raw[0] += 1.0;
        raw[1] += x;
        raw[2] += y;
        push_unit(rows, &raw);
    }
}

fn arc(rows: &mut Vec<f32>, dim: usize, part: &Value) {
    let mut x = 0.0;
    let points = (0..count(part, "rows") as u64).map(|i| {
        x += number(part, "step") * uniform(seed(part), i);
        [x, 0.0]
    });
    curve(rows, dim, part, points);
}

fn moons(rows: &mut Vec<f32>, dim: usize, part: &Value) {
    let half = count(part, "rows") as u64;
    let points = (0..2 * half).map(|i| {
        let (sin, cos) = (std::f64::consts::PI * uniform(seed(part), i)).sin_cos();
        let [x, y] = if i < half { [cos, sin] } else { [1.0 - cos, 0.5 - sin] };
        [0.4 * x, 0.4 * y]
    });
    curve(rows, dim, part, points);
}
