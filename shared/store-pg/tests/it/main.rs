//! The store against a real Postgres. No test here knows another's database.

#[cfg(test)]
mod acts;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod calibrations;
#[cfg(test)]
mod cluster_means;
#[cfg(test)]
mod clusters;
#[cfg(test)]
mod collections;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod corrections;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod erasing;
#[cfg(test)]
mod erasing_meanwhile;
#[cfg(test)]
mod face_stats;
#[cfg(test)]
mod faces;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod job_bounds;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod merges;
#[cfg(test)]
mod only_adds;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod people;
#[cfg(test)]
mod prototypes;
#[cfg(test)]
mod recognitions;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trail;
#[cfg(test)]
mod views;
#[cfg(test)]
mod webhooks;
