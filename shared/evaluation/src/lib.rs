//! From scores to evidence: error rates with the counts behind them, curves, intervals, calibrations, limits, and a
//! report of all of it; how well clusters agree with people; and readers of the common test sets. REFERENCE "Evaluation"
//! has the rules.
//!
//! A similarity is a cosine, -1 to 1, and a pair matches at or above the threshold. People are indices of the caller's
//! list.

pub mod alike;
pub mod bootstrap;
pub mod calibrate;
pub mod clusters;
pub mod compare;
pub mod datasets;
pub mod discard;
pub mod gating;
pub mod held_out;
pub mod identification;
pub mod limits;
pub mod rank;
pub mod rate;
pub mod rates;
pub mod report;
mod solve;
#[cfg(test)]
mod testing;
pub mod verdict;
pub mod verification;
pub mod watch;

pub use alike::{AlikePeople, SUPPORTING_PAIRS};
pub use bootstrap::{Interval, MIN_PEOPLE, Resampling, Tally};
pub use calibrate::{CalibrateError, Fit, Penalty, Platt};
pub use clusters::{Agreement, ClusterQuality, LabelsError, adjusted_rand_index};
pub use compare::{CompareError, Comparisons, Embeddings, GenuinePair, all_against_all, for_each_pair};
pub use datasets::DatasetError;
pub use discard::{Direction, Discard, DiscardError};
pub use facewire_clustering::SplitMix64;
pub use gating::{GateEffect, Gated};
pub use held_out::{
    HEAD_FPIR, HeadEpoch, HeadGain, HeadSide, HeadTraining, HeadVerdict, HeldOutError, MIN_HELD_OUT, held_out,
    judge_head,
};
pub use identification::{Answer, Endings, FPIR_TARGETS, FpirRow, OpenSet, OpenSetPoint, Probe};
pub use limits::{Demand, Judged, LimitRow, Limits};
pub use rank::{Gallery, Ranked};
pub use rate::Rate;
pub use rates::{CurvePoint, EqualErrorRate, FMR_TARGETS, FmrRow, Scores, ScoresError};
pub use report::Report;
pub use verdict::{Gain, Verdict, VerdictError, verdict};
pub use verification::{Accuracy, Fold, Pair, Verification, VerificationError};
pub use watch::{Watch, unwatched};
