//! Where a sample's table ends, another goes on, moved to where the sample ends: the pack's own, or today's where nothing may be below
//! it. Today's may be of a sample as small, so it lends no other its shape. A small sample has two or three points, and the
//! threshold over the logarithm of the rate flattens towards low rates: the line through the last two points, continued for some
//! decades, is far above what was ever measured, and the further above the lower the sample is. Nothing is measured here.

use facewire_domain::{Calibration, FmrPoint};

/// Rates that a table has beside those of the sample's and of the other's.
const RATES: [f64; 9] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];
/// The lowest of them.
const LOWEST: f64 = 1e-9;

/// The last rate that the sample itself measures.
pub(super) fn measured_to(measured: &Calibration) -> f64 {
    measured.table.last().map_or(1.0, |point| point.fmr)
}

/// Where the sample's own table ends.
#[derive(Debug, Clone, Copy)]
struct End {
    fmr: f64,
    /// How far the sample is above the other there.
    above: f32,
}

impl End {
    /// Above the other's first rate its curve is not known: the sample's is continued as far as to that one.
    fn of(measured: &Calibration, other: &Calibration) -> Self {
        let last = measured_to(measured);
        let fmr = other.table.first().map_or(last, |first| first.fmr.min(last));
        Self { fmr, above: measured.threshold_at_fmr(fmr) - other.threshold_at_fmr(fmr) }
    }

    /// What is said of the thresholds behind it.
    fn note(self, moved: f32, other: &Calibration) -> String {
        let (fmr, version) = (self.fmr, &other.version);
        let moved = if moved == 0.0 { String::new() } else { format!(", moved by {moved:+.4}") };
        format!("Behind FMR {fmr:.0e} the table is that of {version}{moved}, and is not measured.")
    }
}

/// The sample's table, and behind its end the pack's own, moved up or down to it. As it is where the pack has none.
pub(super) fn moved(measured: Calibration, pack: Option<&Calibration>, notes: &mut Vec<String>) -> Calibration {
    let Some(pack) = pack else { return measured };
    let end = End::of(&measured, pack);
    let behind = RATES.into_iter().chain(rates(pack)).filter(|fmr| *fmr < end.fmr);
    let table = table(rates(&measured).chain([end.fmr]).chain(behind), |fmr| {
        if fmr < end.fmr { pack.threshold_at_fmr(fmr) + end.above } else { measured.threshold_at_fmr(fmr) }
    });
    notes.push(end.note(end.above, pack));
    let data = format!("{}; behind FMR {:.0e} the curve of {}", measured.data, end.fmr, pack.version);
    Calibration { table, data, ..measured }
}

/// The higher of the sample's threshold and today's at each rate, and behind the sample's end today's, moved up to it where it is
/// below.
pub(super) fn not_below(measured: Calibration, now: &Calibration, notes: &mut Vec<String>) -> Calibration {
    let end = End::of(&measured, now);
    let raised = end.above.max(0.0);
    // Between two of these rates both are straight, so that the line between the higher ones is below neither. Today's has a bend where
    // it reaches 1, too.
    let one = Some(now.fmr_at(1.0)).filter(|fmr| *fmr > LOWEST);
    let table = table(RATES.into_iter().chain(rates(&measured)).chain(rates(now)).chain(one), |fmr| {
        let today = now.threshold_at_fmr(fmr);
        if fmr < end.fmr { today + raised } else { measured.threshold_at_fmr(fmr).max(today) }
    });
    notes.push(end.note(raised, now));
    let data = format!("{}; at no rate below {}", measured.data, now.version);
    Calibration { table, data, ..measured }
}

fn rates(calibration: &Calibration) -> impl Iterator<Item = f64> + '_ {
    calibration.table.iter().map(|point| point.fmr)
}

/// The points at these rates, as a table must be: rates fall and thresholds rise.
fn table(rates: impl Iterator<Item = f64>, threshold: impl Fn(f64) -> f32) -> Vec<FmrPoint> {
    let mut rates: Vec<f64> = rates.filter(|fmr| *fmr > 0.0 && *fmr < 1.0).collect();
    rates.sort_unstable_by(|a, b| b.total_cmp(a));
    rates.dedup();
    let mut table: Vec<FmrPoint> = Vec::new();
    for fmr in rates {
        let point = FmrPoint { fmr, threshold: threshold(fmr).clamp(-1.0, 1.0) };
        match table.as_slice() {
            // Nothing is more alike than the same.
            [.., last] if last.threshold >= 1.0 => break,
            // Above a table's first rate its first threshold holds.
            [only] if only.threshold >= point.threshold => table.clear(),
            // The line goes on to the next one, and is not below it.
            [.., last] if last.threshold >= point.threshold => continue,
            _ => {}
        }
        table.push(point);
    }
    table
}

#[cfg(test)]
#[path = "joined_tests.rs"]
mod tests;
