//! Who may do what on the NATS server: the rights of each service, and the users beside the services. Permissions follow from
//! this table (`facewire nats-config`); which subjects a right takes is the bus's knowledge. A new right of a service is added
//! here, and tests run the whole chain with no more than this.

mod configure;
mod keys;
mod server;

use facewire_bus::{Right, Rights};
use facewire_domain::{CollectionId, Stage};

use crate::config::Config;
use crate::service::Service;

pub use configure::{Configured, ConfiguredUser, NatsSetup, configure};
pub use keys::{KeySource, UserKeys};
pub use server::{ACCOUNT, ACCOUNTS_FILE, SERVER_FILE, ServerFiles};

/// A user of the NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name: that of its key files and, behind `_INBOX_`, of its inboxes.
    pub name: String,
    /// Who it is, in words.
    pub purpose: String,
    /// What it may do.
    pub rights: Rights,
}

/// Makes the streams.
pub const MIGRATE: &str = "migrate";
/// The commands that people type.
pub const OPERATOR: &str = "operator";
/// Sees the server itself, in the system account; it has no rights in ours.
pub const SYSTEM: &str = "system";

/// What the names of producers' users begin with.
const PRODUCER: &str = "producer-";

/// The user of a collection's producers.
pub fn producer(collection: &CollectionId) -> String {
    format!("{PRODUCER}{collection}")
}

/// Every user of Facewire's account: the services', `migrate`, `operator`, and one for the producers of each collection.
/// Monitoring and KEDA ask the server over HTTP, and need none.
pub fn users(config: &Config, collections: &[CollectionId]) -> Vec<User> {
    let user = |name: &str, purpose: &str, rights: &[Right]| User {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        rights: Rights::of(name, rights),
    };
    let mut users: Vec<User> =
        Service::all().iter().map(|service| user(service.name(), "service", &service.rights(config))).collect();
    users.push(user(MIGRATE, "facewire migrate", &[Right::Look, Right::Migrate(config.reconciler.lease)]));
    users.push(user(OPERATOR, "commands", &operator(config)));
    users.extend(collections.iter().map(|collection| {
        let purpose = format!("producers of {collection}");
        user(&producer(collection), &purpose, &[Right::Produce(collection.clone())])
    }));
    users
}

impl Service {
    /// What it may do on NATS.
    pub fn rights(self, config: &Config) -> Vec<Right> {
        let lease = config.reconciler.lease;
        match self {
            Service::Stage(stage) => stage_rights(stage),
            Service::Reconciler => {
                vec![Right::Look, Right::WriteSettings, Right::Lease(lease, facewire_reconciler::SERVICE)]
            }
            Service::Gateway => vec![
                Right::Look,
                Right::PublishCrops,
                Right::AwaitReplies,
                Right::PublishJobs,
                Right::PublishEvents,
                Right::ReadResults,
                Right::ReadEvents,
                Right::Erase,
                Right::Lease(lease, facewire_gateway::EVENTS_LEASE),
            ],
            Service::Jobs => vec![Right::Look, Right::ConsumeJobs, Right::PublishJobs, Right::Erase],
        }
    }
}

/// Work in, work and endings out, and dead letters.
fn stage_rights(stage: Stage) -> Vec<Right> {
    let mut rights = vec![Right::Look, Right::Consume(stage), Right::HandOn(Stage::Enrich), Right::GiveUp(stage)];
    let mut after = Stage::ALL.into_iter().skip_while(|one| *one != stage).skip(1);
    rights.extend(after.next().map(Right::HandOn));
    match stage {
        // The gate is theirs, and follows what calibrations say.
        Stage::Quality | Stage::Embed => rights.push(Right::ReadSettings),
        Stage::Enrich => rights.extend([Right::PublishResults, Right::Reply]),
        _ => {}
    }
    rights
}

/// What the commands need that are no service: also `enroll` and `publish`, which are producers of any collection.
fn operator(config: &Config) -> Vec<Right> {
    vec![
        Right::Look,
        Right::PublishCrops,
        Right::PublishJobs,
        Right::ReadResults,
        Right::ReadEvents,
        Right::ReadDead,
        Right::Replay,
        Right::Erase,
        Right::Lease(config.reconciler.lease, facewire_reconciler::SERVICE),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_user_has_a_name_of_its_own_and_its_own_inbox() {
        let users = users(&Config::default(), &["office".parse().unwrap(), "vault".parse().unwrap()]);
        let names: BTreeSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names.len(), users.len());
        assert!(names.contains("embed-gpu") && names.contains("producer-vault") && !names.contains(SYSTEM));
        for user in &users {
            let inbox = format!("_INBOX_{}.>", user.name);
            let inboxes: Vec<_> = user.rights.subscribe.iter().filter(|it| it.starts_with("_INBOX")).collect();
            assert_eq!(inboxes, [&inbox]);
        }
    }

    #[test]
    fn jobs_erase_as_the_gateway_does_and_publish_nothing_else() {
        let users = users(&Config::default(), &[]);
        let of = |name: &str| &users.iter().find(|user| user.name == name).unwrap().rights;
        let erasing = Rights::of("jobs", &[Right::Erase]);
        assert!(erasing.publish.is_subset(&of("jobs").publish) && erasing.publish.is_subset(&of("gateway").publish));
        let others = |subject: &&String| !subject.starts_with('$') && !erasing.publish.contains(*subject);
        assert_eq!(of("jobs").publish.iter().filter(others).collect::<Vec<_>>(), ["jobs.*"]);
        assert_eq!(of("jobs").subscribe, erasing.subscribe);
    }

    #[test]
    fn a_stage_hands_on_to_the_next_alone() {
        let config = Config::default();
        let users = users(&config, &[]);
        let may = |name: &str, subject: &str| {
            users.iter().find(|user| user.name == name).unwrap().rights.publish.contains(subject)
        };
        assert!(may("ingest", "stage.quality.*") && !may("ingest", "stage.embed.*"));
        assert!(may("quality", "stage.embed.*") && may("quality", "stage.enrich.*"));
        assert!(may("match", "stage.enrich.*") && !may("match", "results.*.*"));
        assert!(may("enrich", "results.*.*") && may("enrich", "replies.>"));
        let results: Vec<_> = users.iter().filter(|user| user.rights.publish.contains("results.*.*")).collect();
        assert_eq!(results.len(), 1, "nobody else says what became of a crop");
    }
}
