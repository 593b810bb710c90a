//! The crate from outside: scikit-learn's answers, properties, and how runs behave.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod runs;
#[cfg(test)]
#[path = "../../src/testing.rs"]
mod testing;
