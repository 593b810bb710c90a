//! `.bin` files, as LFW, CALFW, CPLFW, AgeDB-30 and CFP-FP circulate: a Python pickle of `(images, issame)`, two images a pair.

use std::path::Path;

use super::pickle::{Array, Dtype, Node, Pickle, Span};
use super::{DatasetError, at, bytes};

/// A file is at most so long, in bytes.
pub const MAX_BIN: u64 = 1 << 30;

/// An image of the set, usually 112×112 already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinImage<'a> {
    /// A file as JPEG or PNG encoders make it.
    Encoded(&'a [u8]),
    /// Rows of pixels of three bytes.
    Pixels {
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
        /// `height · width · 3` bytes; whether RGB or BGR the file does not say.
        data: &'a [u8],
    },
}

/// Where an image's bytes lie; of pixels, height and width.
type Place = (Span, Option<(usize, usize)>);

/// The pairs of a `.bin` file. Images 2i and 2i + 1 are pair i.
#[derive(Debug)]
pub struct BinSet {
    pickle: Pickle,
    images: Vec<Place>,
    same: Vec<bool>,
}

impl BinSet {
    /// Reads a file of at most [`MAX_BIN`] bytes. Only what such a file needs is understood: nothing else of a pickle, and no
    /// object is built.
    ///
    /// # Errors
    /// The file is missing, or is no such pickle.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        Self::parse(bytes(path, MAX_BIN)?).map_err(|problem| at(path, (0, problem)))
    }

    pub(super) fn parse(data: Vec<u8>) -> Result<Self, String> {
        let pickle = Pickle::parse(data)?;
        let Some(Node::Tuple(parts)) = pickle.root() else {
            return Err("not a pickle of (images, issame)".to_owned());
        };
        let [images, same] = parts.as_slice() else {
            return Err(format!("a pickle of {} parts, not of (images, issame)", parts.len()));
        };
        let images = self::images(&pickle, *images)?;
        let same = self::same(&pickle, *same)?;
        if images.len() != same.len() * 2 {
            return Err(format!("{} images for {} pairs: two each are expected", images.len(), same.len()));
        }
        Ok(Self { pickle, images, same })
    }

    /// Whether each pair is of one person.
    pub fn same(&self) -> &[bool] {
        &self.same
    }

    /// Number of images, twice that of pairs.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// One image.
    pub fn image(&self, index: usize) -> Option<BinImage<'_>> {
        let (span, shape) = self.images.get(index)?;
        let data = self.pickle.bytes(*span);
        Some(match *shape {
            None => BinImage::Encoded(data),
            Some((height, width)) => BinImage::Pixels { height, width, data },
        })
    }
}

fn images(pickle: &Pickle, images: usize) -> Result<Vec<Place>, String> {
    let Some(Node::List(items) | Node::Tuple(items)) = pickle.node(images) else {
        return Err("the images are no list".to_owned());
    };
    let image = |(index, id): (usize, &usize)| match pickle.node(*id) {
        Some(Node::Bytes(span)) => Ok((*span, None)),
        Some(Node::Array(Array { shape, dtype: Some(Dtype::U8), data: Some(data) })) => match shape.as_slice() {
            // A file's bytes, also as OpenCV's encoder returns them: in one column.
            [length] | [length, 1] | [1, length] if *length == data.len => Ok((*data, None)),
            [height, width, 3] if height.checked_mul(*width).and_then(|n| n.checked_mul(3)) == Some(data.len) => {
                Ok((*data, Some((*height, *width))))
            }
            _ => Err(format!("image {index}: {} bytes do not fill an array of shape {shape:?}", data.len)),
        },
        _ => Err(format!("image {index} is neither bytes nor an array of bytes")),
    };
    items.iter().enumerate().map(image).collect()
}

fn same(pickle: &Pickle, same: usize) -> Result<Vec<bool>, String> {
    match pickle.node(same) {
        Some(Node::List(items) | Node::Tuple(items)) => {
            let flag = |(index, id): (usize, &usize)| match pickle.node(*id) {
                Some(Node::Bool(flag)) => Ok(*flag),
                Some(Node::Int(flag @ (0 | 1))) => Ok(*flag == 1),
                _ => Err(format!("issame {index} is neither True nor False")),
            };
            items.iter().enumerate().map(flag).collect()
        }
        Some(Node::Array(Array { shape, dtype: Some(Dtype::U8 | Dtype::Bool), data: Some(data) }))
            if shape.as_slice() == [data.len] =>
        {
            Ok(pickle.bytes(*data).iter().map(|flag| *flag != 0).collect())
        }
        _ => Err("issame is no list".to_owned()),
    }
}

#[cfg(test)]
#[path = "bin_tests.rs"]
mod tests;
