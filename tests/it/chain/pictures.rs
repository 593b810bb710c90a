//! The sample faces, and pictures that no camera should send, put together byte by byte where an encoder would refuse.

use std::path::PathBuf;

use facewire_artifacts::{Person, Samples};
use facewire_devstack::testing;
use facewire_vision::encode::{encode_jpeg, encode_png};
use facewire_vision::{DecodeLimits, RgbImage, decode};

/// The sample faces.
pub(crate) struct Faces {
    samples: Samples,
}

impl Faces {
    pub(crate) async fn fetch() -> Self {
        Self { samples: testing::samples().await.unwrap() }
    }

    pub(crate) fn person(&self, subject: &str) -> Person {
        self.samples.people().into_iter().find(|person| person.subject == subject).unwrap()
    }

    pub(crate) fn obama(&self) -> Person {
        self.person("barack-obama")
    }

    pub(crate) fn biden(&self) -> Person {
        self.person("joe-biden")
    }

    pub(crate) fn stranger(&self) -> PathBuf {
        self.samples.strangers().remove(0)
    }

    /// Six people.
    pub(crate) fn group(&self) -> PathBuf {
        self.samples.group_photo()
    }
}

/// A picture of one grey: no face is in it.
pub(crate) fn blank(side: u32) -> Vec<u8> {
    encode_png(&RgbImage::filled(side, side, [128; 3])).unwrap()
}

/// A picture without a face whose camera lay on its side: 64×48 as it is stored, 48×64 upright.
pub(crate) fn lying() -> Vec<u8> {
    let jpeg = encode_jpeg(&RgbImage::filled(64, 48, [128; 3]), 90).unwrap();
    // One directory with one entry, the orientation.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let (start, rest) = jpeg.split_at(2);
    [start, &[0xFF, 0xE1], &length, exif, rest].concat()
}

/// A photograph changed by `change`, as JPEG.
pub(crate) fn changed(image: &[u8], change: impl Fn(&RgbImage) -> RgbImage) -> Vec<u8> {
    let image = decode(image, &DecodeLimits::default()).unwrap();
    encode_jpeg(&change(&image), 90).unwrap()
}

/// An image of its own, that shows the same: a JPEG with a comment behind its start.
pub(crate) fn numbered(image: &[u8], number: u64) -> Vec<u8> {
    let (start, rest) = image.split_at(2);
    assert_eq!(start, [0xFF, 0xD8]);
    [start, &[0xFF, 0xFE, 0, 10], &number.to_be_bytes(), rest].concat()
}

/// A PNG whose header claims a size, with a valid checksum, and that holds next to nothing.
pub(crate) fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // 8 bits, RGB, deflate, no filter, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [(b"IHDR", header.as_slice()), (b"IDAT", &[0x78, 0x9C]), (b"IEND", &[])] {
        png.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        let start = png.len();
        png.extend(kind);
        png.extend(body);
        let checksum = crc32(&png[start..]);
        png.extend(checksum.to_be_bytes());
    }
    png
}

/// As in the PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn the_checksum_is_the_usual_one() {
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}
