//! The repository as a whole: its rules (`tidy`), and the chain of all services on real servers and real models. Tests of
//! one crate alone must not come in.

#[cfg(test)]
mod chain;
#[cfg(test)]
mod tidy;
