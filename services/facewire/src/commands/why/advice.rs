//! What a person may do about an ending. Numbers and limits are told elsewhere: what stands here holds for any of them.

use facewire_domain::{Bound, Decision, Reason};

/// A miss whose similarity reaches this part of the threshold is told as a near one.
const NEAR: f32 = 0.75;

/// A second person this little behind the first makes a match doubtful.
const CLOSE: f32 = 0.05;

/// What to do about a reason; `bound` is the gate's limit that broke.
pub(super) fn about(reason: Reason, bound: Option<&Bound>, decision: Option<&Decision>) -> &'static str {
    match reason {
        Reason::LowQuality | Reason::FaceTooSmall | Reason::LowLandmarkScore => {
            bound.map_or("look at the picture", |bound| bound.advice)
        }
        Reason::BelowThreshold => miss(decision),
        Reason::Ambiguous => {
            "look at both: if they are one person, enrol that person once; if two, enrol another picture of each"
        }
        Reason::NoFace => {
            "look at the picture: a face must be whole, not covered, and have a margin of a third of its width around it"
        }
        Reason::MultipleFaces => {
            "publish it as a frame with a capture time of its own (Facewire-Frame and Facewire-Captured-At; \
             `facewire publish --frame --now`), or cut crops around one face each"
        }
        Reason::UnsupportedFormat => {
            "publish the JPEG, PNG or WebP as the camera made it, not a video or a wrapped one"
        }
        Reason::InvalidImage => {
            "the bytes do not decode: look at what the producer sends, and whether it cuts it short"
        }
        Reason::ImageTooLarge => "publish crops rather than whole pictures, or raise the limit in the configuration",
        Reason::ImageTooSmall => "publish crops of more pixels: nearer, larger, or from the camera's full resolution",
        Reason::InvalidMessage => "correct the producer's headers or subject (the README has them all)",
        Reason::EmptyGallery => {
            "enrol somebody in this collection: `facewire enroll --collection NAME --person NAME FILE`"
        }
        Reason::IdentityConflict => {
            "a person must settle it: enrol under the subject that the face, image or name belongs to, or under another name"
        }
        Reason::Timeout | Reason::InferenceError | Reason::StoreUnavailable | Reason::Internal => {
            "Facewire's fault, not the camera's: `facewire doctor`, then `facewire dead list` and `facewire dead replay`"
        }
    }
}

fn miss(decision: Option<&Decision>) -> &'static str {
    let near = |decision: &Decision| decision.best.is_some_and(|best| best.similarity >= decision.threshold * NEAR);
    if decision.is_some_and(near) {
        "a near miss: if the nearest is right, enrol one more picture of that person, best one of this camera"
    } else {
        "a stranger, or somebody whose enrolled pictures are very unlike this one"
    }
}

/// What a match leaves to doubt.
pub(super) fn doubt(decision: &Decision) -> Option<&'static str> {
    let behind = decision.best?.similarity - decision.runner_up?.similarity;
    (decision.matched && behind < CLOSE).then_some("the second person is very near: look at both before you rely on it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use facewire_domain::Candidate;
    use uuid::Uuid;

    fn decision(best: f32, second: f32, threshold: f32) -> Decision {
        let candidate = |n: u128, similarity| {
            Some(Candidate { person: Uuid::from_u128(n).into(), face: Uuid::from_u128(n).into(), similarity })
        };
        let (best, runner_up, matched) = (candidate(1, best), candidate(2, second), best >= threshold);
        Decision { matched, threshold, best, runner_up, ..Decision::default() }
    }

    #[test]
    fn every_limit_of_the_gate_has_its_own_advice() {
        for bound in Bound::all() {
            let own = about(bound.reason, Some(bound), None);
            assert_ne!(own, about(bound.reason, None, None), "{}", bound.name);
        }
    }

    #[test]
    fn a_near_miss_is_no_stranger_and_a_close_second_is_a_doubt() {
        let of = |d: &Decision| about(Reason::BelowThreshold, None, Some(d));
        assert!(of(&decision(0.3, 0.1, 0.36)).contains("near miss"));
        assert!(of(&decision(0.1, 0.0, 0.36)).contains("stranger"));
        assert!(doubt(&decision(0.5, 0.48, 0.36)).is_some());
        assert!(doubt(&decision(0.5, 0.1, 0.36)).is_none());
        assert!(doubt(&decision(0.3, 0.29, 0.36)).is_none(), "no match, no doubt");
    }
}
