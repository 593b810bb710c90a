//! A value that threads look at while they work, and that one actor replaces: nobody waits for longer than a pointer takes.

use std::sync::{Arc, PoisonError, RwLock};

/// The value of now.
#[derive(Debug)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// Begins with this.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// What it is now; it stays so for whoever holds it.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everybody who looks from here on sees this.
    pub fn replace(&self, value: T) {
        let value = Arc::new(value);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_it_keeps_what_it_was() {
        let live = Live::new(1);
        let before = live.now();
        live.replace(2);
        assert_eq!((*before, *live.now()), (1, 2));
    }
}
