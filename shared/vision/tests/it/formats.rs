//! What is accepted, and that it comes out upright.

use facewire_domain::Reason;
use facewire_vision::{DecodeError, DecodeLimits, ImageFormat, RgbImage, decode, encode_jpeg, encode_png, probe};
use image::{DynamicImage, ExtendedColorType, ImageEncoder};

/// A picture in which no two orientations look alike: red top left, green top right, blue bottom left; 64×48.
fn asymmetric() -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| match (x < 32, y < 24) {
        (true, true) => [220, 30, 30],
        (false, true) => [30, 220, 30],
        (true, false) => [30, 30, 220],
        (false, false) => [200, 200, 200],
    })
}

/// The picture as a camera held in `orientation` stores it: the inverse of what a reader must do.
fn stored(upright: &RgbImage, orientation: u8) -> RgbImage {
    let (w, h) = (upright.width(), upright.height());
    let turned = orientation >= 5;
    let (width, height) = if turned { (h, w) } else { (w, h) };
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = match orientation {
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (w - 1 - y, x),
            7 => (w - 1 - y, h - 1 - x),
            8 => (y, h - 1 - x),
            _ => (x, y),
        };
        upright.pixel(u, v).unwrap()
    })
}

/// A JPEG with an EXIF block of one entry, the orientation, in either byte order.
fn with_exif(jpeg: &[u8], orientation: u8, big_endian: bool) -> Vec<u8> {
    let two = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let four = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut tiff = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    tiff.extend(two(42));
    tiff.extend(four(8));
    tiff.extend(two(1));
    tiff.extend(two(0x0112));
    tiff.extend(two(3));
    tiff.extend(four(1));
    tiff.extend(two(u16::from(orientation)));
    tiff.extend(two(0));
    tiff.extend(four(0));
    let mut out = jpeg[..2].to_vec();
    out.extend([0xFF, 0xE1]);
    out.extend(((tiff.len() + 8) as u16).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(tiff);
    out.extend(&jpeg[2..]);
    out
}

fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let sum: u64 = a.data().iter().zip(b.data()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.data().len() as f64
}

#[test]
fn all_eight_orientations_give_the_same_upright_picture() {
    let upright = asymmetric();
    for orientation in 1..=8 {
        for big_endian in [false, true] {
            let raw = stored(&upright, orientation);
            let jpeg = with_exif(&encode_jpeg(&raw, 95).unwrap(), orientation, big_endian);
            let info = probe(&jpeg).unwrap();
            assert_eq!((info.width, info.height), (raw.width(), raw.height()), "as stored");
            assert_eq!(info.upright(), (upright.width(), upright.height()), "orientation {orientation}");
            let decoded = decode(&jpeg, &DecodeLimits::default()).unwrap();
            assert!(difference(&decoded, &upright) < 4.0, "orientation {orientation}");
        }
    }
}

fn encoded(image: DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

#[test]
fn every_depth_and_colour_becomes_rgb() {
    let upright = asymmetric();
    let rgb = image::RgbImage::from_raw(64, 48, upright.data().to_vec()).unwrap();
    let rgb = DynamicImage::ImageRgb8(rgb);
    let limits = DecodeLimits::default();
    for image in [
        rgb.clone(),
        DynamicImage::ImageRgba8(rgb.to_rgba8()),
        DynamicImage::ImageRgb16(rgb.to_rgb16()),
        DynamicImage::ImageRgba16(rgb.to_rgba16()),
    ] {
        let decoded = decode(&encoded(image, image::ImageFormat::Png), &limits).unwrap();
        assert_eq!(decoded, upright);
    }
    for grey in [DynamicImage::ImageLuma8(rgb.to_luma8()), DynamicImage::ImageLuma16(rgb.to_luma16())] {
        let decoded = decode(&encoded(grey, image::ImageFormat::Png), &limits).unwrap();
        let [r, g, b] = decoded.pixel(0, 0).unwrap();
        assert!(r == g && g == b && r > 0);
    }
    let mut webp = Vec::new();
    image::codecs::webp::WebPEncoder::new_lossless(&mut webp)
        .write_image(upright.data(), 64, 48, ExtendedColorType::Rgb8)
        .unwrap();
    assert_eq!(probe(&webp).unwrap().format, ImageFormat::Webp);
    assert_eq!(decode(&webp, &limits).unwrap(), upright);
}

#[test]
fn strangers_formats_are_named_as_such() {
    let limits = DecodeLimits::default();
    for bytes in [&b""[..], b"GIF89a\x01\x00\x01\x00", b"BM", b"<svg/>", b"RIFF\x10\0\0\0WAVE", &[0u8; 64]] {
        assert_eq!(probe(bytes), Err(DecodeError::Unsupported));
        assert_eq!(decode(bytes, &limits).unwrap_err().reason(), Reason::UnsupportedFormat);
    }
    let damaged = probe(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 4]).unwrap_err();
    assert_eq!(damaged.reason(), Reason::InvalidImage);
}

#[test]
fn limits_are_judged_by_the_header() {
    let png = encode_png(&asymmetric()).unwrap();
    let allow = |max_pixels, max_side, min_side| decode(&png, &DecodeLimits { max_pixels, max_side, min_side });
    assert!(allow(64 * 48, 64, 48).is_ok());
    assert_eq!(allow(64 * 48 - 1, 64, 48).unwrap_err().reason(), Reason::ImageTooLarge);
    assert_eq!(allow(64 * 48, 63, 48).unwrap_err().reason(), Reason::ImageTooLarge);
    assert_eq!(allow(64 * 48, 64, 49).unwrap_err(), DecodeError::TooSmall { side: 48, limit: 49 });
}

/// A PNG whose header claims 20,000×20,000, with next to nothing behind it.
fn bomb() -> Vec<u8> {
    let mut png = encode_png(&RgbImage::filled(1, 1, [0; 3])).unwrap();
    png[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_bomb_is_refused_without_taking_its_memory() {
    let png = bomb();
    let before = peak_kib();
    let refused = decode(&png, &DecodeLimits::default()).unwrap_err();
    assert_eq!(refused.reason(), Reason::ImageTooLarge);
    let refused = decode(&png, &DecodeLimits { max_side: 30_000, ..DecodeLimits::default() }).unwrap_err();
    assert_eq!(refused, DecodeError::TooLarge { what: "pixels", value: 400_000_000, limit: 40_000_000 });
    assert!(peak_kib() - before < 256 * 1024, "its 1.2 GB were taken");
}
