//! How many label sets an instrument may have. The SDK keeps 2,000 of each; whatever comes then is counted without its
//! labels, and an alert on a label stays silent. Instruments that tell cameras apart need more.

use facewire_domain::{Reason, Stage, Status};
use opentelemetry_sdk::metrics::{Instrument, Stream};

/// What the SDK keeps of every instrument unless it is told otherwise.
const USUAL: usize = 2_000;
/// At most, however many cameras are told apart: the SDK makes room for all of them at once, and no setting may ask for
/// more than there is memory. Enough for 8,000 cameras.
const MOST: usize = 1 << 20;
/// Endings of one camera: a status without a reason, or a reason, and the stage. More cannot be; a third of them can.
const ENDINGS: usize = (Status::ALL.len() + Reason::ALL.len()) * Stage::ALL.len();

/// What is kept of an instrument that tells cameras apart; `None` for all others, which keep what is usual.
pub(crate) fn view(instrument: &Instrument, cameras: usize) -> Option<Stream> {
    let each = match instrument.name() {
        "facewire.crops.ended" => ENDINGS,
        "facewire.crops.admitted" => 1,
        name if name.starts_with("facewire.quality.") => 1,
        _ => return None,
    };
    Stream::builder().with_cardinality_limit(label_sets(cameras, each)).build().ok()
}

/// Of so many cameras, and of `other`, which counts whatever comes after them.
fn label_sets(cameras: usize, each: usize) -> usize {
    cameras.saturating_add(1).saturating_mul(each).clamp(USUAL, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_every_ending_of_every_camera() {
        assert_eq!(label_sets(200, ENDINGS), 201 * ENDINGS);
        assert!(ENDINGS >= 64 && label_sets(8_000, ENDINGS) > 8_000 * ENDINGS);
        assert_eq!((label_sets(200, 1), label_sets(5_000, 1)), (USUAL, 5_001), "never less than is usual");
        assert_eq!(label_sets(usize::MAX, ENDINGS), MOST);
    }
}
