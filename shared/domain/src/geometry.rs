//! Points and boxes in pixel coordinates of the upright image (EXIF orientation applied). No pixels here.

use serde::{Deserialize, Serialize};

/// A position in pixels; x to the right, y down, the centre of the first pixel at (0, 0).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// Pixels from the left.
    pub x: f32,
    /// Pixels from the top.
    pub y: f32,
}

impl Point {
    /// A point.
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// Half way to `other`.
    pub fn middle(self, other: Point) -> Point {
        Point::new((self.x + other.x) / 2.0, (self.y + other.y) / 2.0)
    }

    /// Euclidean distance in pixels.
    pub fn distance(self, other: Point) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// Five points as seen in the image: left eye, right eye, nose, left mouth corner, right mouth corner.
pub type Landmarks = [Point; 5];

/// A face's box; corners may lie outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BoundingBox {
    /// Left edge.
    pub x1: f32,
    /// Upper edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

impl BoundingBox {
    /// Intersection over union with another box, 0 to 1; 0 where either has no area.
    pub fn iou(&self, other: &BoundingBox) -> f32 {
        let shared = BoundingBox {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        };
        let union = self.area() + other.area() - shared.area();
        if union > 0.0 { shared.area() / union } else { 0.0 }
    }

    /// Pixels, never negative.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Pixels, never negative.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Its middle.
    pub fn centre(&self) -> Point {
        Point::new(self.x1, self.y1).middle(Point::new(self.x2, self.y2))
    }

    /// Square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The part inside an image of this size.
    pub fn clip(&self, width: f32, height: f32) -> BoundingBox {
        BoundingBox {
            x1: self.x1.clamp(0.0, width),
            y1: self.y1.clamp(0.0, height),
            x2: self.x2.clamp(0.0, width),
            y2: self.y2.clamp(0.0, height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_share_a_part_of_their_union() {
        let at = |x: f32| BoundingBox { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 };
        assert_eq!((at(0.0).iou(&at(0.0)), at(0.0).iou(&at(10.0)), at(0.0).iou(&at(90.0))), (1.0, 0.0, 0.0));
        assert!((at(0.0).iou(&at(5.0)) - 1.0 / 3.0).abs() < 1e-6);
        let none = BoundingBox::default();
        assert_eq!(none.iou(&none), 0.0, "no area, nothing in common");
    }
}
