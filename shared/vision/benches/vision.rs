//! How fast the pixel work is, on generated pictures: no face is needed to measure a warp.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use facewire_domain::{BoundingBox, Point};
use facewire_vision::{DecodeLimits, RgbImage, align, decode, encode_jpeg, encode_png, probe, resize, signals};

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = ((x as f32 / 9.0).sin() * (y as f32 / 7.0).cos() * 60.0 + 128.0) as u8;
        [wave, wave.wrapping_add((x / 4) as u8), (y / 3) as u8]
    })
}

fn vision(c: &mut Criterion) {
    let image = picture(640, 480);
    let landmarks = align::TEMPLATE.map(|p| Point::new(p.x * 2.0 + 180.0 + p.y * 0.2, p.y * 2.0 + 100.0));
    let bbox = BoundingBox { x1: 200.0, y1: 150.0, x2: 400.0, y2: 350.0 };
    let jpeg = encode_jpeg(&image, 90).unwrap_or_default();
    let png = encode_png(&image).unwrap_or_default();
    let limits = DecodeLimits::default();

    c.bench_function("align", |b| b.iter(|| align(black_box(&image), &landmarks)));
    if let Ok(aligned) = align(&image, &landmarks) {
        c.bench_function("signals", |b| {
            b.iter(|| signals::quality(black_box(&aligned), None, &landmarks, &bbox, (0.9, 0.0), (640, 480)))
        });
    }
    c.bench_function("resize_640x480_to_320x240", |b| b.iter(|| resize(black_box(&image), 320, 240)));
    c.bench_function("probe_jpeg_640x480", |b| b.iter(|| probe(black_box(&jpeg))));
    c.bench_function("decode_jpeg_640x480", |b| b.iter(|| decode(black_box(&jpeg), &limits)));
    c.bench_function("decode_png_640x480", |b| b.iter(|| decode(black_box(&png), &limits)));
}

criterion_group!(benches, vision);
criterion_main!(benches);
