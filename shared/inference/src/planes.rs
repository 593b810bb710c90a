//! Pictures as the models take them.

use facewire_vision::RgbImage;

/// Appends the channels of a picture as planes (NCHW), each value `(v − mean) / scale`.
pub(crate) fn planes(image: &RgbImage, mean: f32, scale: f32, out: &mut Vec<f32>) {
    out.reserve(image.data().len());
    for channel in 0..3 {
        out.extend(image.data().iter().skip(channel).step_by(3).map(|v| (f32::from(*v) - mean) / scale));
    }
}
