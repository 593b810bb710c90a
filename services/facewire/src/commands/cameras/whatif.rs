//! What other limits would have accepted or rejected: stored signals, judged anew by the gate itself, with the limits of what
//! each crop was for. Only measured faces can be; what was never measured is the caller's to count.

use std::collections::BTreeMap;

use facewire_domain::{Bound, CameraId, CollectionId, Gate, GateLimits, Intent, Logit, Quality, Side};
use facewire_store_pg::{Cause, MeasuredFace, Store, StoreError};
use serde::Serialize;
use time::OffsetDateTime;

use crate::limits::LimitChange;

/// Rows of one page.
const PAGE: u32 = 2_000;

/// Faces of one camera that are judged anew at most, the newest: a second or two.
const MOST: u64 = 200_000;

/// What judges a camera's faces now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now<'a> {
    recognise: GateLimits,
    enrol: GateLimits,
    /// Scores a face before it is embedded; the configured pack's, where it has one.
    early: Option<&'a Logit>,
}

impl<'a> Now<'a> {
    pub(super) fn of(gate: &Gate, collection: &str, camera: &str, early: Option<&'a Logit>) -> Self {
        let limits = |intent| gate.limits_for(collection, camera, intent);
        Self { recognise: limits(Intent::Recognize), enrol: limits(Intent::Enroll), early }
    }

    fn limits(&self, face: &MeasuredFace) -> GateLimits {
        let limits = if face.intent == Intent::Enroll { self.enrol } else { self.recognise };
        if face.of_frame { limits.in_frame() } else { limits }
    }

    /// What the limits see. Of an embedded face the score of its embedding is stored, and it was judged by the one before as
    /// well: the lesser decides. A score of 0 is none, for want of what it is made of.
    fn judged(&self, face: &MeasuredFace) -> Quality {
        let early = self.early.map(|early| early.probability(&face.signals)).filter(|early| *early > 0.0);
        match early {
            Some(early) if early < face.signals.score => Quality { score: early, ..face.signals },
            _ => face.signals,
        }
    }

    /// The stricter of the limits: whatever is looser than this one changes something.
    fn strictest(&self, bound: &Bound) -> Option<f32> {
        let limits = [self.recognise.get(bound), self.enrol.get(bound)].into_iter().flatten();
        limits.reduce(|a, b| if bound.side == Side::Min { a.max(b) } else { a.min(b) })
    }
}

/// Whether a limit of the gate rejected these faces; else no other one would change anything.
pub(super) fn by_a_limit(cause: &Cause) -> bool {
    cause.status == "rejected" && cause.signal.as_deref().and_then(Bound::named).is_some()
}

/// Limits that are tried.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// `blur=60`, or several.
    label: String,
    changes: Vec<LimitChange>,
}

impl Question {
    fn limits(&self, now: GateLimits) -> GateLimits {
        self.changes.iter().fold(now, |limits, change| change.over(limits))
    }

    fn is_about(&self, bound: Option<&Bound>) -> bool {
        self.changes.iter().any(|change| Some(change.bound) == bound)
    }
}

/// What came of a question. Everything is against the limits of now.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Answer {
    /// The limits that were tried.
    pub(super) limits: String,
    /// Faces that the limits of now refuse and these accept.
    pub(super) would_accept: u64,
    /// Of them: as many as their scores expect to be recognised. A face that was never embedded has only the early score.
    pub(super) gained_recognitions: f64,
    /// Of them: the rest of those that have a score.
    pub(super) expected_errors: f64,
    /// Of them: without a score, so that nothing can be expected of them.
    pub(super) unscored: u64,
    /// Faces that the limits of now accept and these refuse.
    pub(super) would_reject: u64,
    /// Of them: those of known people who were recognised. Of the others nothing is claimed.
    pub(super) lost_recognitions: u64,
    /// Faces that a limit in question refuses now, and then another one would: by that other one.
    pub(super) would_fall_to: BTreeMap<String, u64>,
}

impl Answer {
    fn accept(&mut self, score: f32) {
        self.would_accept += 1;
        // What is no probability cannot be summed as one.
        if (0.0..=1.0).contains(&score) {
            self.gained_recognitions += f64::from(score);
            self.expected_errors += f64::from(1.0 - score);
        } else {
            self.unscored += 1;
        }
    }

    fn reject(&mut self, matched: bool) {
        self.would_reject += 1;
        self.lost_recognitions += u64::from(matched);
    }

    fn fall_to(&mut self, bound: Option<&Bound>) {
        let name = bound.map_or("unknown", |bound| bound.name);
        *self.would_fall_to.entry(name.to_owned()).or_default() += 1;
    }
}

/// Faces judged anew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rejudged {
    /// Measured faces that were judged: the newest, at most as many as is said at `MOST`.
    pub(super) judged: u64,
    /// There were more.
    pub(super) cut: bool,
    /// Of them: refused by the limits of now.
    pub(super) refused: u64,
    /// Of them: judged otherwise when they came, as the limits were others then.
    pub(super) judged_otherwise_then: u64,
    /// Faces that nobody can judge anew: none was found, or the image was refused before.
    pub(super) never_measured: u64,
    pub(super) answers: Vec<Answer>,
}

/// What the operator asks: each change alone, and all together.
pub(super) fn asked(changes: &[LimitChange]) -> Vec<Question> {
    let alone = changes.iter().map(|change| vec![*change]);
    let together = (changes.len() > 1).then(|| changes.to_vec());
    alone.chain(together).map(question).collect()
}

fn question(changes: Vec<LimitChange>) -> Question {
    let label = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Question { label, changes }
}

/// What is worth asking of each limit that rejects: one that half of what it rejected would keep, and one that nine tenths
/// would. A limit that is looser by now is left out.
pub(super) fn suggested(causes: &[Cause], now: &Now<'_>) -> Vec<Question> {
    let rejecting = causes.iter().filter(|cause| by_a_limit(cause));
    let looser = |cause: &Cause| {
        let bound = Bound::named(cause.signal.as_deref()?)?;
        let limit = now.strictest(bound)?;
        let most = if bound.side == Side::Min { cause.p10 } else { cause.p90 };
        let mut values = [cause.median?, most?].map(|value| rounded(value, bound.side)).to_vec();
        values.dedup_by_key(|value| value.to_bits());
        values.retain(|value| if bound.side == Side::Min { *value < limit } else { *value > limit });
        Some(values.into_iter().map(move |value| LimitChange { bound, value: Some(value) }))
    };
    rejecting.filter_map(looser).flatten().map(|change| question(vec![change])).collect()
}

/// Two digits, towards the looser side, so that the value itself is accepted.
fn rounded(value: f64, side: Side) -> f32 {
    if value <= 0.0 {
        return 0.0;
    }
    let step = 10f64.powf(value.log10().floor() - 1.0);
    let steps = value / step;
    let steps = if side == Side::Min { steps.floor() } else { steps.ceil() };
    // Written and read again: the step's own error must not show.
    let digits = usize::from(step < 1.0) * 6;
    format!("{:.digits$}", steps * step).parse().unwrap_or_default()
}

/// Judges the measured faces of a camera anew.
pub(super) async fn rejudge(
    store: &Store,
    (collection, camera): (&CollectionId, &CameraId),
    since: OffsetDateTime,
    now: Now<'_>,
    questions: &[Question],
    never_measured: u64,
) -> Result<Rejudged, StoreError> {
    let mut tally = Tally::new(now, questions, never_measured);
    let mut after = None;
    while tally.sum.judged < MOST {
        let page = store.measured_faces(collection, camera, Some(since), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(tally.sum) };
        after = Some(last.place);
        page.iter().for_each(|face| tally.judge(face));
    }
    let beyond = store.measured_faces(collection, camera, Some(since), after, 1).await?;
    tally.sum.cut = !beyond.is_empty();
    Ok(tally.sum)
}

struct Tally<'a> {
    now: Now<'a>,
    questions: &'a [Question],
    sum: Rejudged,
}

impl<'a> Tally<'a> {
    fn new(now: Now<'a>, questions: &'a [Question], never_measured: u64) -> Self {
        let answer = |question: &Question| Answer { limits: question.label.clone(), ..Answer::default() };
        let answers = questions.iter().map(answer).collect();
        let sum = Rejudged { judged: 0, cut: false, refused: 0, judged_otherwise_then: 0, never_measured, answers };
        Self { now, questions, sum }
    }

    fn judge(&mut self, face: &MeasuredFace) {
        let (limits, signals) = (self.now.limits(face), self.now.judged(face));
        let by = |limits: GateLimits| limits.judge(&signals).map_err(|refusal| Bound::of_detail(&refusal.detail));
        let now = by(limits);
        self.sum.judged += 1;
        self.sum.refused += u64::from(now.is_err());
        self.sum.judged_otherwise_then += u64::from(now.is_err() != face.refused);
        for (question, answer) in self.questions.iter().zip(&mut self.sum.answers) {
            let asked = question.limits(limits);
            match (&now, by(if face.of_frame { asked.in_frame() } else { asked })) {
                (Err(_), Ok(())) => answer.accept(face.signals.score),
                (Ok(()), Err(_)) => answer.reject(face.matched),
                (Err(before), Err(then)) if question.is_about(*before) && *before != then => answer.fall_to(then),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use facewire_domain::{Shape, Term};
    use facewire_store_pg::MeasuredPlace;
    use uuid::Uuid;

    use super::*;

    fn scored(score: f32, matched: bool) -> MeasuredFace {
        let signals = Quality { blur: 100.0, score, ..Quality::default() };
        let place = MeasuredPlace::new(OffsetDateTime::UNIX_EPOCH, Uuid::nil(), 0);
        MeasuredFace { signals, refused: false, matched, of_frame: false, intent: Intent::Recognize, place }
    }

    fn everybody(limits: GateLimits) -> Now<'static> {
        Now { recognise: limits, enrol: limits, early: None }
    }

    fn tallied(question: &str, faces: &[MeasuredFace]) -> Answer {
        let questions = asked(&[question.parse().unwrap()]);
        let now = everybody(GateLimits { min_score: Some(0.5), ..GateLimits::OFF });
        let mut tally = Tally::new(now, &questions, 0);
        faces.iter().for_each(|face| tally.judge(face));
        tally.sum.answers.remove(0)
    }

    #[test]
    fn what_is_gained_is_expected_and_what_is_lost_is_counted() {
        let faces = [
            scored(0.125, false),
            scored(0.25, false),
            scored(0.375, false),
            scored(0.5, true),
            scored(0.625, false),
            scored(0.75, true),
        ];
        let looser = tallied("score=0.25", &faces);
        assert_eq!((looser.would_accept, looser.gained_recognitions, looser.expected_errors), (2, 0.625, 1.375));
        assert_eq!((looser.unscored, looser.would_reject, looser.lost_recognitions), (0, 0, 0));
        let stricter = tallied("score=0.7", &faces);
        assert_eq!(
            (stricter.would_reject, stricter.lost_recognitions),
            (2, 1),
            "of who was not matched nothing is claimed"
        );
        assert_eq!((stricter.would_accept, stricter.gained_recognitions, stricter.expected_errors), (0, 0.0, 0.0));
        let by_another = tallied("blur=200", &faces);
        assert_eq!((by_another.would_accept, by_another.would_reject, by_another.lost_recognitions), (0, 3, 2));
    }

    #[test]
    fn without_a_score_nothing_is_expected() {
        let faces = [f32::NAN, f32::NEG_INFINITY, 0.25].map(|score| scored(score, false));
        let off = tallied("score=off", &faces);
        assert_eq!((off.would_accept, off.unscored), (3, 2));
        assert_eq!((off.gained_recognitions, off.expected_errors), (0.25, 0.75));
    }

    #[test]
    fn enrolment_has_its_own_limits() {
        let enrol = GateLimits { min_score: Some(0.4), ..GateLimits::OFF };
        let now = Now { enrol, ..everybody(GateLimits { min_score: Some(0.25), ..GateLimits::OFF }) };
        let enrolled = MeasuredFace { refused: true, intent: Intent::Enroll, ..scored(0.375, false) };
        let questions = asked(&["score=0.35".parse().unwrap()]);
        let mut tally = Tally::new(now, &questions, 0);
        [enrolled, scored(0.375, false), scored(0.3, true)].iter().for_each(|face| tally.judge(face));
        assert_eq!((tally.sum.judged, tally.sum.refused, tally.sum.judged_otherwise_then), (3, 1, 0));
        let answer = &tally.sum.answers[0];
        assert_eq!((answer.would_accept, answer.would_reject, answer.lost_recognitions), (1, 1, 1));
    }

    #[test]
    fn the_score_before_embedding_counts_as_well() {
        let size = Term { signal: "face_size".to_owned(), shape: Shape::Linear, weight: 1.0, usual: 0.0 };
        let early = Logit { intercept: -60.0, terms: vec![size] };
        let now = Now { early: Some(&early), ..everybody(GateLimits { min_score: Some(0.5), ..GateLimits::OFF }) };
        let of_size = |face_size: f32, score: f32| {
            let face = scored(score, false);
            MeasuredFace { signals: Quality { face_size, ..face.signals }, ..face }
        };
        // Small and refused for it, though its embedding came out well; large; without a size and without a score.
        let faces = [of_size(50.0, 0.75), of_size(70.0, 0.75), of_size(f32::NAN, 0.75), of_size(50.0, f32::NAN)];
        let mut tally = Tally::new(now, &[], 0);
        let refused = faces.iter().map(|face| {
            let before = tally.sum.refused;
            tally.judge(face);
            tally.sum.refused > before
        });
        assert_eq!(refused.collect::<Vec<bool>>(), [true, false, false, true]);
    }

    #[test]
    fn a_suggestion_is_round_and_never_stricter_than_its_value() {
        for (value, least, most) in [
            (12.34, 12.0, 13.0),
            (0.0437, 0.043, 0.044),
            (99.9, 99.0, 100.0),
            (1234.5, 1200.0, 1300.0),
            (5.0, 5.0, 5.0),
        ] {
            assert_eq!((rounded(value, Side::Min), rounded(value, Side::Max)), (least, most), "{value}");
        }
        assert_eq!(rounded(0.0, Side::Min), 0.0);
    }

    #[test]
    fn only_a_looser_limit_is_suggested() {
        let cause = |status: &str, signal: &str, values: [f64; 3]| Cause {
            collection: "c".to_owned(),
            camera: "cam".to_owned(),
            status: status.to_owned(),
            reason: "low_quality".to_owned(),
            signal: Some(signal.to_owned()),
            faces: 9,
            p10: Some(values[0]),
            median: Some(values[1]),
            p90: Some(values[2]),
            limit: None,
        };
        let causes = [
            cause("rejected", "blur", [8.0, 20.0, 39.0]),
            cause("rejected", "yaw", [56.0, 60.0, 80.0]),
            cause("rejected", "roll", [61.0, 62.0, 63.0]),
            cause("rejected", "too_dark", [0.2, 0.3, 0.4]),
            cause("no_match", "similarity", [0.1, 0.2, 0.3]),
            cause("rejected", "bytes", [1.0, 2.0, 3.0]),
        ];
        let now = GateLimits {
            min_blur: Some(40.0),
            max_yaw: Some(55.0),
            min_brightness: Some(0.1),
            max_roll: None,
            ..GateLimits::default()
        };
        let labels = |now: &Now| suggested(&causes, now).into_iter().map(|question| question.label).collect::<Vec<_>>();
        assert_eq!(labels(&everybody(now)), ["blur=20", "blur=8", "yaw=60", "yaw=80"]);
        // Of enrolment's stricter limit there is something to ask, though recognition accepts all of that.
        let (recognise, enrol) = (GateLimits::OFF, GateLimits { min_blur: Some(15.0), ..GateLimits::OFF });
        assert_eq!(labels(&Now { recognise, enrol, early: None }), ["blur=8"]);
        let known: Vec<bool> = causes.iter().map(by_a_limit).collect();
        assert_eq!(known, [true, true, true, true, false, false]);
    }

    #[test]
    fn several_limits_are_asked_alone_and_together() {
        let change = |text: &str| text.parse::<LimitChange>().unwrap();
        let labels = |changes: &[LimitChange]| asked(changes).into_iter().map(|q| q.label).collect::<Vec<_>>();
        assert_eq!(labels(&[change("blur=9")]), ["blur=9"]);
        assert_eq!(labels(&[change("blur=9"), change("yaw=70")]), ["blur=9", "yaw=70", "blur=9 yaw=70"]);
    }
}
