//! The store against a real Postgres. No test here knows another's database.

mod admission;
mod endings;
mod enrolment;
mod faces;
mod ledger;
mod outage;
mod support;
