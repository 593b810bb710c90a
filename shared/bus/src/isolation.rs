//! Which redelivered messages are worked on together, so that a message that kills the process does not use up the
//! deliveries of others. Pure: the source asks, and does the waiting.
//!
//! A message that was delivered before may be the one that ended the process (or hung until the pipeline was restarted).
//! Redelivered messages are therefore handed on in groups, and only while nothing else of the stage is in hand; the next
//! group, and every first delivery, waits until the group is done. How large a group may be follows from the attempts that
//! its messages have left, this one not counted:
//!
//! | left | with `max_deliver` 5, the delivery | at most |
//! | --- | --- | --- |
//! | 3 or more | 2 | [`FIRST_GROUP`], doubled with each such group that is done, up to a whole pull |
//! | 2 | 3 | [`SECOND_GROUP`] |
//! | 1 or none | 4 and 5 | alone |
//!
//! Why an innocent message is not given up: beside a poisonous one it loses its first delivery, its second in a first group,
//! and its third in a second group at worst. Its fourth is alone, and succeeds; the fifth is a reserve. This needs that
//! nobody takes messages that it does not work on at once, for the server counts a delivery when it sends the message. So
//! while the consumer has redelivered messages, the source takes one at a time, and adds to a group what fits into it; the
//! message with the most deliveries goes first. `max_deliver` below 4 leaves no room for all of this: groups are then smaller
//! from the start, and with 1 a process that dies still takes along what it had in hand.
//!
//! The doubling is for the usual case, a process that was killed with innocent messages in hand: 8192 of them take about
//! seventy groups, not a thousand.
//!
//! Limits: several instances isolate each for itself, and stages that share a process do not wait for each other (a stage that
//! waits for room downstream would wait for ever). A poisonous message of one stage can still cost messages of another stage
//! in the same process a delivery, each time that both are in hand at that moment.

use std::collections::VecDeque;

/// Messages of a first group, to begin with.
pub(crate) const FIRST_GROUP: usize = 8;

/// Messages of a group with two attempts left.
pub(crate) const SECOND_GROUP: usize = 2;

/// How often a message was delivered, this time included.
pub(crate) trait Delivered {
    fn delivered(&self) -> u64;
}

/// Sizes groups.
#[derive(Debug, Clone)]
pub(crate) struct Isolation {
    max_deliver: u64,
    first_group: usize,
    largest: usize,
}

/// Messages to hand on together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group<T> {
    pub(crate) messages: Vec<T>,
    /// Nothing else may be in hand meanwhile.
    pub(crate) isolated: bool,
}

impl Isolation {
    /// `largest`: messages of any group at most.
    pub(crate) fn new(max_deliver: u64, largest: usize) -> Self {
        Self { max_deliver, first_group: FIRST_GROUP.min(largest.max(1)), largest: largest.max(1) }
    }

    /// Messages of a group at most, by the one with the most deliveries.
    fn limit(&self, delivered: u64) -> usize {
        match self.max_deliver.saturating_sub(delivered) {
            0 | 1 => 1,
            2 => SECOND_GROUP.min(self.largest),
            _ => self.first_group,
        }
    }

    /// Whether any of these needs isolation.
    pub(crate) fn is_needed<T: Delivered>(waiting: &VecDeque<T>) -> bool {
        waiting.iter().any(|message| message.delivered() > 1)
    }

    /// Whether one more message, not known yet, may join those that wait: all are redelivered, and their group is not full.
    pub(crate) fn has_room<T: Delivered>(&self, waiting: &VecDeque<T>) -> bool {
        let strictest = waiting.iter().map(Delivered::delivered).max().unwrap_or(u64::MAX);
        waiting.iter().all(|message| message.delivered() > 1) && waiting.len() < self.limit(strictest)
    }

    /// The next messages to hand on: redelivered ones before others, those with the most deliveries first.
    pub(crate) fn next<T: Delivered>(&self, waiting: &mut VecDeque<T>) -> Option<Group<T>> {
        if !Self::is_needed(waiting) {
            return waiting.pop_front().map(|message| Group { messages: vec![message], isolated: false });
        }
        // Stable: those with equally many stay in order.
        waiting.make_contiguous().sort_by_key(|message| std::cmp::Reverse(message.delivered()));
        let limit = self.limit(waiting.front().map_or(1, Delivered::delivered));
        let redelivered = waiting.iter().take_while(|message| message.delivered() > 1).count();
        let messages = waiting.drain(..redelivered.min(limit)).collect();
        Some(Group { messages, isolated: true })
    }

    /// A group is done, and the process is alive. `delivered` and `size`: of the group.
    pub(crate) fn done(&mut self, delivered: u64, size: usize) {
        if self.max_deliver.saturating_sub(delivered) >= 3 && size >= self.first_group {
            self.first_group = self.first_group.saturating_mul(2).min(self.largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Delivered for u64 {
        fn delivered(&self) -> u64 {
            *self
        }
    }

    fn groups(isolation: &Isolation, waiting: &[u64]) -> Vec<(Vec<u64>, bool)> {
        let mut waiting: VecDeque<u64> = waiting.iter().copied().collect();
        std::iter::from_fn(|| isolation.next(&mut waiting)).map(|group| (group.messages, group.isolated)).collect()
    }

    #[test]
    fn the_fewer_attempts_are_left_the_smaller_the_group() {
        let isolation = Isolation::new(5, 128);
        let two = vec![2; 20];
        let sizes: Vec<usize> = groups(&isolation, &two).iter().map(|(messages, _)| messages.len()).collect();
        assert_eq!(sizes, [8, 8, 4]);
        let mixed = groups(&isolation, &[1, 2, 3, 1, 4, 3, 5, 2, 3, 6]);
        let expected = [vec![6], vec![5], vec![4], vec![3, 3], vec![3, 2], vec![2]];
        let expected =
            expected.into_iter().map(|messages| (messages, true)).chain([(vec![1], false), (vec![1], false)]);
        assert_eq!(mixed, expected.collect::<Vec<_>>());
    }

    #[test]
    fn first_deliveries_are_not_grouped_and_do_not_wait() {
        assert_eq!(groups(&Isolation::new(5, 128), &[1, 1]), [(vec![1], false), (vec![1], false)]);
        assert!(!Isolation::is_needed(&VecDeque::from([1, 1])));
    }

    #[test]
    fn with_few_attempts_groups_are_small_from_the_start() {
        assert_eq!(groups(&Isolation::new(3, 128), &[2, 2]), [(vec![2], true), (vec![2], true)]);
        assert_eq!(groups(&Isolation::new(4, 128), &[2, 2]), [(vec![2, 2], true)]);
        assert_eq!(groups(&Isolation::new(50, 1), &[2, 2]), [(vec![2], true), (vec![2], true)]);
    }

    #[test]
    fn one_more_may_join_only_where_its_group_has_room_whatever_it_is() {
        let isolation = Isolation::new(5, 128);
        let room = |waiting: &[u64]| isolation.has_room(&waiting.iter().copied().collect());
        assert!(room(&[2; 7]) && room(&[3]));
        assert!(!room(&[2; 8]) && !room(&[3, 2]) && !room(&[4]) && !room(&[2, 1]) && !room(&[1]) && !room(&[9]));
    }

    #[test]
    fn first_groups_grow_while_nothing_happens_and_only_they() {
        let mut isolation = Isolation::new(5, 20);
        isolation.done(3, 2);
        isolation.done(2, 7);
        assert_eq!(groups(&isolation, &[2; 20])[0].0.len(), 8, "it was not full");
        for expected in [16, 20, 20] {
            let size = groups(&isolation, &[2; 20])[0].0.len();
            isolation.done(2, size);
            assert_eq!(groups(&isolation, &[2; 20])[0].0.len(), expected);
        }
        assert_eq!(groups(&isolation, &[3; 20])[0].0.len(), 2);
    }

    /// Every way of losing is tried: whenever a poisonous message is handed on, all that was taken loses a delivery.
    #[test]
    fn whatever_the_order_no_innocent_message_is_given_up() {
        const POISON: usize = 0;
        #[derive(Clone, Copy)]
        struct One(usize, u64);
        impl Delivered for One {
            fn delivered(&self) -> u64 {
                self.1
            }
        }
        for messages in [2_usize, 3, 9, 20, 100] {
            for first in 0..messages {
                // The first process took all of them, and so did the second, which did not know of any redelivery yet.
                let mut left: VecDeque<One> = (0..messages).map(|name| One(name, 1)).collect();
                left.rotate_left(first);
                let mut dead = Vec::new();
                while !left.is_empty() {
                    let isolation = Isolation::new(5, 128);
                    let knows = left.iter().any(|one| one.1 > 1);
                    let mut taken = VecDeque::new();
                    while let Some(mut one) = left.pop_front() {
                        one.1 += 1;
                        taken.push_back(one);
                        if knows && !isolation.has_room(&taken) {
                            break;
                        }
                    }
                    while let Some(group) = isolation.next(&mut taken) {
                        if group.messages.iter().any(|one| one.1 > 5) {
                            dead.extend(group.messages.iter().map(|one| one.0));
                        } else if group.messages.iter().any(|one| one.0 == POISON) {
                            left.extend(group.messages);
                            left.append(&mut taken);
                        }
                    }
                }
                assert_eq!(dead, [POISON], "{messages} messages, beginning with {first}");
            }
        }
    }
}
