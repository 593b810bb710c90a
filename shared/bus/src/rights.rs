//! What a user may do, and the subjects that this takes: exactly those that this crate uses for it. A new call of the server is
//! added to the right that it belongs to; who has which right is decided elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use facewire_contracts::subjects;
use facewire_domain::{CollectionId, Stage};
use serde::Serialize;

use crate::layout::{self, Queue};
use crate::options::Options;

/// Something that a user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// See how every stream, consumer and the bucket of settings is set and how full it is, but no message.
    Look,
    /// Take the work of a stage, ack it, give it back, and remove of it what no client can read.
    Consume(Stage),
    /// Publish work for a stage.
    HandOn(Stage),
    /// Write dead letters of a stage.
    GiveUp(Stage),
    /// Publish results.
    PublishResults,
    /// Answer on the reply subjects that crops name.
    Reply,
    /// Wait for such answers as the gateway does.
    AwaitReplies,
    /// Publish crops of every collection.
    PublishCrops,
    /// Publish crops of one collection, hear its results as they are published, and wait for replies.
    Produce(CollectionId),
    /// Say that a job waits.
    PublishJobs,
    /// Take jobs.
    ConsumeJobs,
    /// Publish events.
    PublishEvents,
    /// Read RESULTS of every collection.
    ReadResults,
    /// Read EVENTS of every collection.
    ReadEvents,
    /// Read dead letters.
    ReadDead,
    /// Put dead letters back, and remove them.
    Replay,
    /// Erase messages from every stream.
    Erase,
    /// Read settings.
    ReadSettings,
    /// Read and write settings.
    WriteSettings,
    /// Hold the lease of this name; leases live for this long.
    Lease(Duration, &'static str),
    /// Make and change streams, consumers and buckets; leases live for this long. Nothing is deleted by it.
    Migrate(Duration),
}

/// Subjects that a user may publish and subscribe to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// What it may publish to.
    pub publish: BTreeSet<String>,
    /// What it may subscribe to.
    pub subscribe: BTreeSet<String>,
}

/// The prefix of a user's inboxes: its own, so that it hears no answer to anybody else.
pub fn inbox_prefix(user: &str) -> String {
    format!("_INBOX_{user}")
}

impl Rights {
    /// Of a user with these rights.
    pub fn of(user: &str, rights: &[Right]) -> Self {
        let mut all = Self::default();
        all.subscribe.insert(format!("{}.>", inbox_prefix(user)));
        for right in rights {
            all.add(user, right);
        }
        all
    }

    fn publish(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.publish.extend(subjects);
    }

    fn add(&mut self, user: &str, right: &Right) {
        match right {
            Right::Look => self.look(),
            Right::Consume(stage) => {
                self.consume(Queue::of(*stage));
                // A delivery that is given back is published again.
                self.publish([subjects::filter(*stage)]);
            }
            Right::HandOn(stage) => self.publish([subjects::filter(*stage)]),
            Right::GiveUp(stage) => self.publish([subjects::dead_filter(Some(*stage), None)]),
            Right::PublishResults => self.publish([subjects::results_filter(None, None)]),
            Right::Reply => self.publish([format!("{}.>", subjects::REPLIES)]),
            Right::AwaitReplies => self.subscribe.extend([format!("{}.*.*", subjects::GATEWAY_REPLIES)]),
            Right::PublishCrops => self.publish([subjects::filter(Stage::Ingest)]),
            Right::Produce(collection) => {
                self.publish([format!("crops.{collection}.>")]);
                let replies = format!("{}.{user}.>", subjects::REPLIES);
                self.subscribe.extend([format!("results.{collection}.>"), replies]);
            }
            Right::PublishJobs => self.publish([subjects::JOBS_FILTER.to_owned()]),
            Right::ConsumeJobs => self.consume(Queue::JOBS),
            Right::PublishEvents => self.publish([subjects::events_filter(None, None)]),
            Right::ReadResults => self.read(subjects::RESULTS),
            Right::ReadEvents => self.read(subjects::EVENTS),
            Right::ReadDead => self.read_dead(),
            Right::Replay => {
                self.read_dead();
                self.publish([api("STREAM.MSG.DELETE", subjects::DEAD)]);
                self.publish(Stage::ALL.into_iter().map(subjects::filter));
            }
            Right::Erase => self.erase(),
            Right::ReadSettings => self.bucket(layout::SETTINGS, ">"),
            Right::WriteSettings => {
                self.bucket(layout::SETTINGS, ">");
                self.publish([key(layout::SETTINGS, ">")]);
            }
            Right::Lease(lives, name) => {
                let bucket = layout::leases_bucket(*lives);
                self.bucket(&bucket, name);
                self.publish([key(&bucket, name)]);
            }
            Right::Migrate(leases) => self.migrate(*leases),
        }
    }

    fn look(&mut self) {
        let settings = layout::bucket_stream(layout::SETTINGS);
        self.publish(stream_names().chain([settings]).map(|stream| api("STREAM.INFO", &stream)));
        self.publish(
            Queue::all().map(|Queue { stream, consumer }| api("CONSUMER.INFO", &format!("{stream}.{consumer}"))),
        );
    }

    fn consume(&mut self, Queue { stream, consumer }: Queue) {
        self.publish([
            api("CONSUMER.MSG.NEXT", &format!("{stream}.{consumer}")),
            // The server chooses the form: the second has its domain and account before the stream.
            format!("$JS.ACK.{stream}.{consumer}.>"),
            format!("$JS.ACK.*.*.{stream}.{consumer}.>"),
            // Messages that no client can read are looked up by their numbers.
            api("STREAM.MSG.GET", stream),
            api("STREAM.MSG.DELETE", stream),
        ]);
    }

    /// An ordered reader: a consumer that the server names, and that is made anew, under a name, after a gap.
    fn read(&mut self, stream: &str) {
        self.publish([
            api("STREAM.INFO", stream),
            api("STREAM.MSG.GET", stream),
            api("CONSUMER.CREATE", stream),
            api("CONSUMER.CREATE", &format!("{stream}.>")),
            api("CONSUMER.INFO", &format!("{stream}.*")),
            api("CONSUMER.MSG.NEXT", &format!("{stream}.*")),
            api("CONSUMER.DELETE", &format!("{stream}.*")),
        ]);
    }

    fn read_dead(&mut self) {
        let stream = subjects::DEAD;
        self.publish([
            api("STREAM.INFO", stream),
            api("STREAM.MSG.GET", stream),
            api("CONSUMER.CREATE", stream),
            api("CONSUMER.MSG.NEXT", &format!("{stream}.*")),
        ]);
    }

    fn erase(&mut self) {
        self.look();
        self.read(subjects::RESULTS);
        self.read(subjects::EVENTS);
        self.read_dead();
        let queues = || Stage::ALL.into_iter().map(Stage::stream);
        let erased = || queues().chain([subjects::RESULTS, subjects::EVENTS]);
        self.publish(queues().map(|stream| api("STREAM.MSG.GET", stream)));
        self.publish(erased().map(|stream| api("STREAM.PURGE", stream)));
        self.publish(erased().chain([subjects::DEAD]).map(|stream| api("STREAM.MSG.DELETE", stream)));
        // Work that is erased ends.
        self.publish([subjects::filter(Stage::Enrich)]);
    }

    /// One key of a bucket, or all: how it is, and what it has.
    fn bucket(&mut self, bucket: &str, name: &str) {
        let stream = layout::bucket_stream(bucket);
        self.publish([api("STREAM.INFO", &stream), api("DIRECT.GET", &format!("{stream}.{}", key(bucket, name)))]);
    }

    fn migrate(&mut self, leases: Duration) {
        let buckets = [layout::SETTINGS.to_owned(), layout::leases_bucket(leases)];
        let streams: Vec<String> =
            stream_names().chain(buckets.iter().map(|bucket| layout::bucket_stream(bucket))).collect();
        for verb in ["STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE"] {
            self.publish(streams.iter().map(|stream| api(verb, stream)));
        }
        for verb in ["CONSUMER.INFO", "CONSUMER.CREATE"] {
            self.publish(Queue::all().map(|Queue { stream, consumer }| api(verb, &format!("{stream}.{consumer}"))));
        }
        // The limits of the account, before a bucket is made.
        self.publish(["$JS.API.INFO".to_owned()]);
    }
}

fn api(verb: &str, of: &str) -> String {
    format!("$JS.API.{verb}.{of}")
}

fn key(bucket: &str, name: &str) -> String {
    format!("$KV.{bucket}.{name}")
}

/// All that are no bucket. Their names do not depend on the options.
fn stream_names() -> impl Iterator<Item = String> {
    layout::streams(&Options::default()).into_iter().map(|stream| stream.name)
}

impl Options {
    /// Bytes that all streams and buckets together reserve with one copy of each.
    pub fn reserved_bytes(&self) -> u64 {
        layout::reserved(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishes(rights: &[Right]) -> BTreeSet<String> {
        Rights::of("someone", rights).publish
    }

    #[test]
    fn a_stage_acks_in_both_forms_and_sees_no_other_streams_messages() {
        let rights = publishes(&[Right::Look, Right::Consume(Stage::Embed)]);
        for needed in [
            "$JS.API.CONSUMER.MSG.NEXT.EMBED.embed-gpu",
            "$JS.ACK.EMBED.embed-gpu.>",
            "$JS.ACK.*.*.EMBED.embed-gpu.>",
            "$JS.API.STREAM.INFO.CROPS",
            "$JS.API.STREAM.INFO.KV_facewire_settings",
            "stage.embed.*",
        ] {
            assert!(rights.contains(needed), "{needed}: {rights:?}");
        }
        let messages = |subject: &&String| subject.contains("MSG") && !subject.contains("EMBED");
        assert_eq!(rights.iter().find(messages), None);
    }

    #[test]
    fn nobody_may_do_everything_or_delete_a_stream() {
        let (second, office) = (Duration::from_secs(1), "office".parse().unwrap());
        let mut every =
            vec![Right::Look, Right::PublishResults, Right::Reply, Right::AwaitReplies, Right::PublishCrops];
        every.extend([Right::Produce(office), Right::PublishJobs, Right::ConsumeJobs, Right::PublishEvents]);
        every.extend([Right::ReadResults, Right::ReadEvents, Right::ReadDead, Right::Replay, Right::Erase]);
        every.extend([Right::ReadSettings, Right::WriteSettings, Right::Lease(second, "a"), Right::Migrate(second)]);
        every.extend(Stage::ALL.into_iter().flat_map(|s| [Right::Consume(s), Right::HandOn(s), Right::GiveUp(s)]));
        let Rights { publish, subscribe } = Rights::of("someone", &every);
        for subject in publish.iter().chain(&subscribe) {
            let whole = ["$JS.>", "$JS.API.>", "$KV.>", "$SYS"].iter().any(|all| subject.starts_with(all));
            let first = subject.split('.').next().unwrap();
            assert!(!whole && first != ">" && first != "*" && !subject.contains("STREAM.DELETE"), "{subject}");
        }
    }

    #[test]
    fn a_producer_reaches_its_own_collection_alone() {
        let rights = Rights::of("producer-office", &[Right::Produce("office".parse().unwrap())]);
        assert_eq!(rights.publish, BTreeSet::from(["crops.office.>".to_owned()]));
        let heard = ["_INBOX_producer-office.>", "replies.producer-office.>", "results.office.>"];
        assert_eq!(rights.subscribe, heard.map(str::to_owned).into());
    }

    #[test]
    fn the_reserved_bytes_are_those_of_every_stream_and_bucket() {
        let gib = |n: u64| n << 30;
        let mib = |n: u64| n << 20;
        // CROPS, four stages, RESULTS, DEAD; JOBS, EVENTS, settings, leases.
        let expected = gib(2) + gib(4) + gib(4) + gib(1) + mib(16) + mib(256) + mib(16) + mib(1);
        assert_eq!(Options::default().reserved_bytes(), expected);
    }
}
