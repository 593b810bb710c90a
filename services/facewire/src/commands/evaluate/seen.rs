//! What was seen of one picture, before any limit is applied, and its form in the cache. The gate is applied afterwards, so
//! that other limits need no new inference.

use facewire_domain::{Bound, GateLimits, ImageHash, Quality, Reason, Refusal, ScoreModel, Signal, score};

/// What is asked of a face, as the services ask it: before it is embedded and once more when it was.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Standard {
    pub(in crate::commands) limits: GateLimits,
    /// Predicts whether a face will be recognised.
    pub(in crate::commands) model: Option<ScoreModel>,
}

impl Standard {
    /// A gate that lets every face pass.
    pub(in crate::commands) const OPEN: Self = Self { limits: GateLimits::OFF, model: None };

    /// The first limit that a face breaks.
    pub(super) fn judge(&self, quality: &Quality) -> Option<Refusal> {
        // `judge` sets what it predicts; neither is kept.
        let (mut before, mut after) = (*quality, *quality);
        let model = self.model.as_ref();
        score::judge(model.map(|model| &model.early), &self.limits, &mut before)
            .or_else(|| score::judge_embedded(model?, &self.limits, &mut after))
    }

    /// What is known of a face in the end, with the prediction.
    pub(super) fn completed(&self, mut quality: Quality) -> Quality {
        quality.score = self.model.as_ref().map_or(1.0, |model| model.embedded.probability(&quality));
        quality
    }

    /// The same as the limits meet it: they judge the score before embedding and once more after it, so the lesser decides.
    pub(super) fn at_limits(&self, quality: Quality) -> Quality {
        let before = self.model.as_ref().map_or(1.0, |model| model.early.probability(&quality));
        let completed = self.completed(quality);
        Quality { score: completed.score.min(before), ..completed }
    }
}

/// One picture, as it was published.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) struct Seen {
    /// Shorter side, in pixels, of the largest face that was found; `None`: none was, or nobody looked.
    pub(in crate::commands) face_side: Option<f32>,
    /// Faces that were found.
    pub(in crate::commands) faces: u32,
    pub(in crate::commands) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) enum Outcome {
    /// There is no face to judge.
    Refused(Refusal),
    /// One face, whatever its quality.
    Face { quality: Quality, embedding: Vec<f32> },
    /// A picture that was aligned by others: nothing was measured, and no limit applies.
    Aligned { embedding: Vec<f32> },
}

impl Seen {
    /// A picture without a face to judge.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { face_side: None, faces: 0, outcome: Outcome::Refused(refusal) }
    }

    /// Of the gate's face, if there is one.
    pub(in crate::commands) fn embedding(&self) -> Option<&[f32]> {
        match &self.outcome {
            Outcome::Refused(_) => None,
            Outcome::Face { embedding, .. } | Outcome::Aligned { embedding } => Some(embedding),
        }
    }

    /// What was measured; what is predicted from it is not in it.
    pub(super) fn quality(&self) -> Option<&Quality> {
        match &self.outcome {
            Outcome::Face { quality, .. } => Some(quality),
            Outcome::Refused(_) | Outcome::Aligned { .. } => None,
        }
    }

    /// Why the picture is not searched; `None`: it is.
    pub(super) fn refusal(&self, standard: &Standard) -> Option<Refusal> {
        match &self.outcome {
            Outcome::Refused(refusal) => Some(refusal.clone()),
            Outcome::Face { quality, .. } => standard.judge(quality),
            Outcome::Aligned { .. } => None,
        }
    }

    /// The same in a word.
    pub(super) fn reason(&self, standard: &Standard) -> Option<String> {
        self.refusal(standard).map(|refusal| word(&refusal))
    }
}

/// `no_face`, or of a limit `low_quality (too_dark)`.
pub(super) fn word(refusal: &Refusal) -> String {
    match (refusal.reason, Bound::of_detail(&refusal.detail)) {
        (Reason::LowQuality, Some(bound)) => format!("{} ({})", refusal.reason, bound.name),
        (reason, _) => reason.to_string(),
    }
}

const REFUSED: u8 = 0;
const FACE: u8 = 1;
const ALIGNED: u8 = 2;

/// The record of a picture. Its layout belongs to the version of the chain: see `chain`.
pub(super) fn encode(key: &ImageHash, seen: &Seen) -> anyhow::Result<Vec<u8>> {
    let mut out = key.as_bytes().to_vec();
    out.extend(seen.faces.to_le_bytes());
    out.extend(seen.face_side.unwrap_or(f32::NAN).to_le_bytes());
    match &seen.outcome {
        Outcome::Refused(refusal) => {
            out.push(REFUSED);
            serde_json::to_writer(&mut out, &(refusal.reason, &refusal.detail))?;
        }
        Outcome::Face { quality, embedding } => {
            out.push(FACE);
            quality.values().chain(embedding.iter().copied()).for_each(|value| out.extend(value.to_le_bytes()));
        }
        Outcome::Aligned { embedding } => {
            out.push(ALIGNED);
            embedding.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
    }
    Ok(out)
}

/// The key of a record, whatever else is in it.
pub(super) fn key_of(record: &[u8]) -> Option<ImageHash> {
    record.first_chunk::<32>().copied().map(ImageHash::from_bytes)
}

/// `None`: it is no record of this chain, with embeddings of `dim` numbers.
pub(super) fn decode(record: &[u8], dim: usize) -> Option<Seen> {
    let (_, rest) = record.split_at_checked(32)?;
    let (faces, rest) = rest.split_first_chunk::<4>()?;
    let (side, rest) = rest.split_first_chunk::<4>()?;
    let (kind, body) = rest.split_first()?;
    let outcome = match *kind {
        REFUSED => {
            let (reason, detail) = serde_json::from_slice(body).ok()?;
            Outcome::Refused(Refusal { reason, detail })
        }
        FACE => {
            let (signals, embedding) = body.split_at_checked(Signal::ALL.len() * 4)?;
            let mut values = floats(signals).into_iter();
            let quality = Quality::from_fn(|_| values.next().unwrap_or(f32::NAN));
            Outcome::Face { quality, embedding: embedding_of(embedding, dim)? }
        }
        ALIGNED => Outcome::Aligned { embedding: embedding_of(body, dim)? },
        _ => return None,
    };
    let face_side = Some(f32::from_le_bytes(*side)).filter(|side| !side.is_nan());
    Some(Seen { face_side, faces: u32::from_le_bytes(*faces), outcome })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn embedding_of(bytes: &[u8], dim: usize) -> Option<Vec<f32>> {
    (bytes.len() == dim * 4).then(|| floats(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use facewire_domain::{Detail, Logit};

    /// A face of that quality, with an embedding of two numbers.
    pub(in crate::commands::evaluate) fn face(quality: Quality, embedding: [f32; 2]) -> Seen {
        let outcome = Outcome::Face { quality, embedding: embedding.to_vec() };
        Seen { face_side: Some(80.0), faces: 1, outcome }
    }

    pub(in crate::commands::evaluate) fn no_face() -> Seen {
        Seen::refused(Refusal { reason: Reason::NoFace, detail: Detail::message("none") })
    }

    #[test]
    fn a_record_comes_back() {
        let key = ImageHash::of(b"picture");
        let quality = Quality::from_fn(|signal| signal as usize as f32 + 0.25);
        let aligned = Seen { face_side: None, faces: 0, outcome: Outcome::Aligned { embedding: vec![0.6, 0.8] } };
        for seen in [face(quality, [1.0, 0.0]), no_face(), aligned] {
            let record = encode(&key, &seen).unwrap();
            assert_eq!((key_of(&record), decode(&record, 2)), (Some(key), Some(seen)));
        }
        let record = encode(&key, &face(quality, [1.0, 0.0])).unwrap();
        assert_eq!(decode(&record, 3), None);
        assert_eq!(decode(&record[..40], 2), None);
        assert_eq!(decode(&[], 2), None);
    }

    fn model(intercept: f64) -> Logit {
        Logit { intercept, terms: Vec::new() }
    }

    #[test]
    fn the_gate_is_applied_afterwards_and_says_the_first_limit() {
        for bound in Bound::all().filter(|bound| bound.signal != Signal::Score) {
            let standard = Standard { limits: GateLimits::OFF.with(bound, Some(0.5)), model: None };
            let spoilt = match bound.side {
                facewire_domain::Side::Min => 0.25,
                facewire_domain::Side::Max => 0.75,
            };
            let quality = Quality::from_fn(|signal| if signal == bound.signal { spoilt } else { 0.5 });
            let seen = face(quality, [1.0, 0.0]);
            assert_eq!(seen.refusal(&standard), standard.limits.judge(&quality).err());
            assert!(seen.reason(&standard).unwrap().contains(bound.reason.as_str()), "{}", bound.name);
            assert_eq!(seen.refusal(&Standard::OPEN), None);
        }
        assert_eq!(no_face().reason(&Standard::OPEN).as_deref(), Some("no_face"));
    }

    #[test]
    fn a_prediction_counts_before_and_after_embedding() {
        let limits = GateLimits::OFF.with(Signal::Score.spec().bounds.first().unwrap(), Some(0.5));
        let refused = |early: f64, embedded: f64| {
            let (version, data) = (String::new(), String::new());
            let model = ScoreModel { version, data, early: model(early), embedded: model(embedded) };
            let standard = Standard { limits, model: Some(model) };
            let known = [standard.completed(Quality::default()), standard.at_limits(Quality::default())];
            (standard.judge(&Quality::default()).is_some(), known.map(|quality| quality.score > 0.5))
        };
        // What is known in the end is the later one, as results carry it; a limit meets the lesser.
        assert_eq!(
            [refused(1.0, 1.0), refused(-1.0, 1.0), refused(1.0, -1.0)],
            [(false, [true, true]), (true, [true, false]), (true, [false, false])]
        );
        // Without a model nothing is predicted, and nobody is refused for it.
        let without = Standard { limits, model: None };
        assert_eq!((without.judge(&Quality::default()), without.at_limits(Quality::default()).score), (None, 1.0));
    }
}
