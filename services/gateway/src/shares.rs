//! Places of which one owner (a key, or an address without one) has a part at most, so that nobody takes those of all. What
//! is counted, and the words for whoever gets none, are for whoever has the places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::caller::Owner;
use crate::error::{ApiError, Code, SOON};

/// The places.
#[derive(Debug)]
pub(crate) struct Shares {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_each: usize,
}

/// Places that are taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Owner, usize>,
}

/// Places that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    owner: Owner,
    number: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The owner has as many as one may have.
    Own,
    /// All are taken.
    All,
}

impl Full {
    /// What whoever gets no place is told: the words of its own share, or of all places.
    pub(crate) fn told(self, own: impl Into<String>, all: impl Into<String>) -> ApiError {
        match self {
            Self::Own => ApiError::new(Code::RateLimited, own).retry_after(SOON),
            Self::All => ApiError::overloaded(all),
        }
    }
}

impl Shares {
    /// `most` in all, and `most_each` of one owner.
    pub(crate) fn new(most: usize, most_each: usize) -> Self {
        Self { taken: Arc::default(), most, most_each }
    }

    /// Takes so many at once, or none.
    pub(crate) fn enter(&self, owner: Owner, number: usize) -> Result<Place, Full> {
        let mut taken = lock(&self.taken);
        let own = taken.each.get(&owner).copied().unwrap_or_default().saturating_add(number);
        let all = taken.all.saturating_add(number);
        if own > self.most_each {
            return Err(Full::Own);
        }
        if all > self.most {
            return Err(Full::All);
        }
        taken.all = all;
        taken.each.insert(owner, own);
        Ok(Place { taken: Arc::clone(&self.taken), owner, number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(self.number);
        let left = taken.each.get(&self.owner).copied().unwrap_or_default().saturating_sub(self.number);
        if left == 0 {
            taken.each.remove(&self.owner);
        } else {
            taken.each.insert(self.owner, left);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_takes_the_places_of_all() {
        let shares = Shares::new(7, 5);
        let key = |number: u128| Owner::Key(Uuid::from_u128(number));
        let enter = |number: u128, places: usize| shares.enter(key(number), places);
        let own = [enter(1, 2).unwrap(), enter(1, 2).unwrap()];
        assert_eq!(enter(1, 2).unwrap_err(), Full::Own, "all of them or none");
        let last = enter(1, 1).unwrap();
        assert_eq!(enter(2, 3).unwrap_err(), Full::All);
        let other = enter(2, 2).unwrap();
        assert_eq!(enter(3, 1).unwrap_err(), Full::All);
        drop(own);
        let again = [enter(1, 3).unwrap(), enter(3, 1).unwrap()];
        assert_eq!(enter(1, usize::MAX).unwrap_err(), Full::Own);
        drop((last, other, again));
        let left = lock(&shares.taken);
        assert!(left.all == 0 && left.each.is_empty(), "{left:?}");
    }
}
