//! Lists against a plain search.

use super::*;
use crate::run::{Phase, Run};
use crate::testing::groups;

/// The same lists by sorting all distances.
fn plain(space: &Space<'_>, quest: Quest<'_>, row: usize) -> Vec<(f64, u32)> {
    let rows = 0..space.matrix.len();
    let others = rows.filter(|other| quest.groups[*other] != quest.groups[row] && !space.twins.is_copy(*other));
    let mut list: Vec<(f64, u32)> =
        others.map(|other| (space.matrix.distance(row, other).max(quest.cores[other]), other as u32)).collect();
    list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    list
}

fn check(space: &Space<'_>, plan: &Plan, quest: Quest<'_>, exact: bool) {
    let run = Run { threads: 2, ..Run::simple() };
    let stage = run.stage(Phase::Comparing, 0.0, 1.0);
    let wanted = |row: usize| row % 4 != 3 && !space.twins.is_copy(row);
    let (mut near, _) = space.nearest(plan, quest, wanted, &stage).unwrap();
    let positions: Vec<usize> = (0..plan.len(&space.matrix)).filter(|position| wanted(plan.row(*position))).collect();
    if exact {
        space.refine(&mut near, plan, &positions, quest, &stage).unwrap();
    }
    assert!(positions.len() > 20);
    for position in 0..plan.len(&space.matrix) {
        let row = plan.row(position);
        let kept: Vec<(f64, u32)> = near.list(position).map(|(other, weight)| (weight, other)).collect();
        if !wanted(row) {
            assert!(kept.is_empty());
            continue;
        }
        let all = plain(space, quest, row);
        assert_eq!(kept.len(), quest.capacity.min(all.len()));
        if exact {
            assert_eq!(kept, all[..kept.len()]);
        }
        let reach = near.reach(position);
        let missing = all.iter().filter(|pair| !kept.contains(pair));
        assert!(missing.clone().all(|(weight, _)| *weight >= reach), "row {row}");
        if all.len() < quest.capacity {
            assert_eq!(reach, f64::INFINITY);
        }
        // A reach is worth something: not far from the last that is kept.
        assert!(reach > kept.last().unwrap().0 - 0.01);
    }
}

#[test]
fn lists_hold_the_nearest_and_know_their_reach() {
    let mut values = groups(&[150, 90], 12, 0.3, 1);
    values.extend(groups(&[1; TILE], 12, 0.0, 2));
    // Copies, and rows that are nearly the same.
    let copies = values[..12 * 40].to_vec();
    values.extend(copies);
    let rows = values.len() / 12;
    let space = Space::new(Matrix::new(&values, 12).unwrap());
    let own: Vec<u32> = (0..rows as u32).collect();
    let (none, cores) = (vec![0.0; rows], (0..rows).map(|row| (row % 9) as f64 * 0.1).collect::<Vec<f64>>());
    let halves: Vec<u32> = (0..rows as u32).map(|row| row / 300).collect();
    let some = || Plan::Rows((0..rows as u32).filter(|row| row % 7 == 2).collect());
    for exact in [false, true] {
        for plan in [Plan::All, some()] {
            check(&space, &plan, Quest { groups: &own, cores: &none, capacity: 20 }, exact);
            check(&space, &plan, Quest { groups: &halves, cores: &cores, capacity: 5 }, exact);
        }
    }
}

#[test]
fn near_ties_within_rounding_are_told_apart() {
    // A hundred rows within 1e-4 of each other, which products in f32 cannot tell apart.
    let values = groups(&[100], 16, 1e-5, 4);
    let space = Space::new(Matrix::new(&values, 16).unwrap());
    let own: Vec<u32> = (0..100).collect();
    check(&space, &Plan::All, Quest { groups: &own, cores: &[0.0; 100], capacity: 8 }, true);
    check(&space, &Plan::All, Quest { groups: &own, cores: &[0.0; 100], capacity: 100 }, false);
}
