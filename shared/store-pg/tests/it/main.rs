//! The store against a real Postgres. No test here knows another's database.

#[cfg(test)]
mod admission;
#[cfg(test)]
mod calibrations;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod faces;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod support;
#[cfg(test)]
mod views;
