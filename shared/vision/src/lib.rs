//! Pixels: what a picture is (by its header), decoding it upright, resizing, aligning a face, measuring its signals,
//! and spoiling pictures for demonstrations. Pure and synchronous: bytes in, bytes out. It is the only crate that names
//! `image`.
//!
//! Wherever a constant or a rounding rule follows OpenCV or InsightFace, it is so that embeddings match those of the
//! wider ecosystem (REFERENCE): a library that resizes more beautifully would move every vector a little.

pub mod align;
pub mod decode;
pub mod degrade;
pub mod encode;
pub mod face;
pub mod grey;
pub mod light;
pub mod pixels;
pub mod resize;
pub mod signals;

pub use align::{AlignError, Alignment, Similarity, align};
pub use decode::{DecodeError, DecodeLimits, ImageFormat, ImageInfo, decode, probe};
pub use degrade::Camera;
pub use encode::{EncodeError, encode_jpeg, encode_png};
pub use face::AlignedFace;
pub use grey::GreyImage;
pub use light::Lit;
pub use pixels::{RgbImage, WrongLength};
pub use resize::{Letterbox, crop, letterbox, resize};
