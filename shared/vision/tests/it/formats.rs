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

/// EXIF data of one entry, the orientation, in either byte order.
fn exif(orientation: u8, big_endian: bool) -> Vec<u8> {
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
    tiff
}

/// A JPEG with such data.
fn with_exif(jpeg: &[u8], orientation: u8, big_endian: bool) -> Vec<u8> {
    let tiff = exif(orientation, big_endian);
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

#[test]
fn a_webp_is_turned_with_and_without_what_a_jpeg_has_before_its_exif_data() {
    let upright = asymmetric();
    for before in [&b""[..], b"Exif\0\0"] {
        let raw = stored(&upright, 6);
        let mut webp = Vec::new();
        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut webp);
        encoder.set_exif_metadata([before, &exif(6, false)].concat()).unwrap();
        encoder.write_image(raw.data(), raw.width(), raw.height(), ExtendedColorType::Rgb8).unwrap();
        assert_eq!(decode(&webp, &DecodeLimits::default()).unwrap(), upright, "behind {} bytes", before.len());
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

/// A lossless WebP of 64×48 as libwebp 1.6 writes it with `-m 6`: a cache of colours, and a group of codes for each half.
const GROUPED: &str = "\
    52494646f4010000574542505650384ce80100002f3fc00b00c650d0b60d13f3e7bdc3202226a00a06df10b46d1bb2e30f62ffa57b083a\
    814012e288a346ff19b86da4680e768f7b94fc0141dbb609cef027f2763d8860d04892e2a0956366a6ffed3f12b76d6410a964e8ee13a5\
    4a9ddd4dcafe6500892150181ca144a931581c9e60249929541a9de164b9395c1e1fbfd0d501937247dd2dd9ed7af3841426572055680d\
    567759697607d3c5f6707dd151cb194ed6bf0c20b0442a6b1eed41b6586dcde3adeb5e77d361dfa85784378f282359445346b2006e3759\
    589cded02c2ecfcf5fe0b62419eb2463f103dcd620f0c264348b93e12fe0597ae1c850a9353d443c325c6e4f0f01f6cd2577c1e4086483\
    d35f343b83d974bcb7faf9fd5dd5777ba2d51d7db7275e5fd8f6abc412a8acc938cc16aaadc9f8aaffbf3f5146b28ca68c6409dc26595a\
    1cded02c2f8fcf1fe076938c7592b1f8056efbbf5d988c667132fc013c4b3607fcfcfb1e321ef4f3ef7b48b06feecc9c3bff9ffc9bc7b9\
    a3db77803bff3ffc9bc7b9c36d9c3bdc0e7087db3877f02cbde0dc61ef0c70c7bde3dc71ef3877d83b03dc71ef3877dc3bce1df6ce0077\
    dc3bce1df78e7387bd33c01df78e73c7bde3dc61ef0c70c7bde3dc71ef3877d83b03dc71ef3877dc3bce1df6ce0077dc3bce1df78e7387\
    bd33c01df78e73c7bdc3dc1100";

#[test]
fn a_lossless_webp_may_have_groups_of_codes() {
    let pairs = GROUPED.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let webp: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let halves = RgbImage::from_fn(64, 48, |x, y| {
        let number = (x * x * 13 + y * y + x * y) >> 3;
        if x < 32 { [(number % 3 * 80) as u8, 100, 0] } else { [0, (number % 2 * 90) as u8, x as u8] }
    });
    assert_eq!(decode(&webp, &DecodeLimits::default()).unwrap(), halves);
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
