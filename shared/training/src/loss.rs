//! Losses of a batch as functions of its similarities: what they are, and their gradient by each similarity. Similarities are
//! cosines s, row by row; squared distances are 2 − 2s.

/// How the negatives of triplets are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mining {
    /// For every pair of one person: the nearest stranger that is farther than the positive, else the farthest (`FaceNet`).
    SemiHard,
    /// For every face: its farthest positive and its nearest stranger.
    BatchHard,
}

/// A loss, and its gradient by each similarity.
#[derive(Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) loss: f64,
    /// n × n, as the similarities; (i, j) and (j, i) count apart.
    pub(crate) gradient: Vec<f64>,
}

/// Similarities of n faces, with whose each is.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'b> {
    pub(crate) similarities: &'b [f64],
    pub(crate) people: &'b [u32],
}

/// A face of another row, and how similar it is.
type Other = (usize, f64);

impl<'b> Batch<'b> {
    /// Every face with its similarities.
    fn rows(self) -> impl Iterator<Item = (usize, &'b [f64])> {
        self.similarities.chunks_exact(self.people.len().max(1)).enumerate()
    }

    /// The other faces of the same person as `anchor`, or of other people.
    fn others(self, anchor: usize, row: &'b [f64], same: bool) -> impl Iterator<Item = Other> + Clone {
        let person = self.people.get(anchor).copied();
        let all = row.iter().copied().zip(self.people).enumerate();
        let wanted =
            move |(other, (_, whose)): &(usize, (f64, &u32))| *other != anchor && (Some(**whose) == person) == same;
        all.filter(wanted).map(|(other, (similarity, _))| (other, similarity))
    }
}

/// The first of the greatest.
fn most(others: impl Iterator<Item = Other>) -> Option<Other> {
    others.reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// The first of the smallest.
fn least(others: impl Iterator<Item = Other>) -> Option<Other> {
    others.reduce(|best, other| if other.1 < best.1 { other } else { best })
}

/// The mean over the triplets that mining makes of the batch, those without a loss included; 0 where it makes none.
pub(crate) fn triplet(batch: Batch<'_>, margin: f64, mining: Mining) -> Judged {
    let n = batch.people.len();
    let mut judged = Judged { loss: 0.0, gradient: vec![0.0; n * n] };
    let triplets = mined(batch, mining);
    let weight = 1.0 / triplets.len().max(1) as f64;
    for (anchor, positive, negative) in triplets {
        let loss = margin + 2.0 * (negative.1 - positive.1);
        if loss > 0.0 {
            judged.loss += weight * loss;
            add(&mut judged.gradient, anchor * n + positive.0, -2.0 * weight);
            add(&mut judged.gradient, anchor * n + negative.0, 2.0 * weight);
        }
    }
    judged
}

fn add(gradient: &mut [f64], place: usize, value: f64) {
    if let Some(slot) = gradient.get_mut(place) {
        *slot += value;
    }
}

/// Anchors with a positive and a negative each.
fn mined(batch: Batch<'_>, mining: Mining) -> Vec<(usize, Other, Other)> {
    let mut triplets = Vec::new();
    for (anchor, row) in batch.rows() {
        let (positives, negatives) = (batch.others(anchor, row, true), batch.others(anchor, row, false));
        match mining {
            Mining::SemiHard => triplets.extend(positives.filter_map(|positive| {
                let farther = most(negatives.clone().filter(|negative| negative.1 < positive.1));
                Some((anchor, positive, farther.or_else(|| least(negatives.clone()))?))
            })),
            Mining::BatchHard => {
                triplets.extend(
                    least(positives).zip(most(negatives)).map(|(positive, negative)| (anchor, positive, negative)),
                );
            }
        }
    }
    triplets
}

/// Khosla and others 2020, the mean outside of the logarithm: of each face that has a positive, the mean over its positives of the
/// negative logarithm of their share among all other faces; and the mean of that.
pub(crate) fn contrastive(batch: Batch<'_>, temperature: f64) -> Judged {
    let n = batch.people.len();
    let mut judged = Judged { loss: 0.0, gradient: vec![0.0; n * n] };
    let anchors = batch.rows().filter(|(anchor, row)| batch.others(*anchor, row, true).next().is_some()).count();
    let weight = 1.0 / anchors.max(1) as f64;
    for ((anchor, row), gradient) in batch.rows().zip(judged.gradient.chunks_exact_mut(n.max(1))) {
        let positives = batch.others(anchor, row, true).count();
        if positives == 0 {
            continue;
        }
        let all = || batch.others(anchor, row, true).chain(batch.others(anchor, row, false));
        let greatest = all().fold(f64::NEG_INFINITY, |greatest, (_, similarity)| greatest.max(similarity));
        let share = |similarity: f64| ((similarity - greatest) / temperature).exp();
        let sum: f64 = all().map(|(_, similarity)| share(similarity)).sum();
        let each = weight / positives as f64;
        for (other, similarity) in all() {
            add(gradient, other, weight / temperature * share(similarity) / sum);
        }
        for (other, similarity) in batch.others(anchor, row, true) {
            judged.loss += each * (sum.ln() - (similarity - greatest) / temperature);
            add(gradient, other, -each / temperature);
        }
    }
    judged
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
