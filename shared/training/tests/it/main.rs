//! The crate from outside: domains in which there is something to learn and in which there is not, trainings that are stopped and
//! resumed, and what is refused.

#[cfg(test)]
mod domains;
#[cfg(test)]
mod made_up;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod resuming;
