//! The clusterings: dry ones of one collection, of which the next waits when one ends, so that one runs at all times. What is measured
//! beside them is elsewhere.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use facewire_domain::CollectionId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::check::SILENCE;
use crate::imports::client::call;

/// Jobs that are begun and have not ended.
const BEGUN: usize = 2;
/// Between two looks at a job.
const PAUSE: Duration = Duration::from_millis(200);

/// Dry clusterings of the kept faces, one after another.
pub(super) struct Jobs {
    at: SocketAddr,
    collection: CollectionId,
    /// Begun and not ended, the oldest first: jobs of one collection run one at a time.
    begun: VecDeque<String>,
    pub(super) ended: u64,
    /// Looks, and those that found one running.
    pub(super) looks: u64,
    pub(super) running: u64,
    /// Of the windows, and of the process in them.
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

impl Jobs {
    pub(super) fn new(at: SocketAddr, collection: CollectionId) -> Self {
        let (ended, looks, running, seconds, cpu_seconds) = Default::default();
        Self { at, collection, begun: VecDeque::new(), ended, looks, running, seconds, cpu_seconds }
    }

    /// Begins as many as are begun at a time, and waits until the first one runs.
    pub(super) async fn begin(&mut self) -> anyhow::Result<()> {
        self.fill().await?;
        let (first, began) = (self.begun.front().context("no job is begun")?.clone(), Instant::now());
        loop {
            let job = self.job(&first).await?;
            if state(&job) == Some("running") || has_ended(&job) {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < SILENCE, "a job does not begin: {job}");
            sleep(PAUSE).await;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        while self.begun.len() < BEGUN {
            let path = format!("/api/v1/faces/cluster?collection={}", self.collection);
            let begun = call(self.at, "POST", &path, Some(json!({ "dryRun": true }))).await?;
            let job = begun.get("jobId").and_then(Value::as_str).context("a job without an id")?;
            self.begun.push_back(job.to_owned());
        }
        Ok(())
    }

    async fn job(&self, job: &str) -> anyhow::Result<Value> {
        call(self.at, "GET", &format!("/api/v1/jobs/{job}"), None).await
    }

    /// Ends with an error only.
    pub(super) async fn keep_one_running(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.look().await {
                return error;
            }
            sleep(PAUSE).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let oldest = self.begun.front().context("no job is begun")?.clone();
        let mut job = self.job(&oldest).await?;
        if has_ended(&job) {
            anyhow::ensure!(state(&job) == Some("succeeded"), "no success: {job}");
            self.ended += 1;
            self.begun.pop_front();
            self.fill().await?;
            job = self.job(self.begun.front().context("no job is begun")?).await?;
        }
        self.looks += 1;
        self.running += u64::from(state(&job) == Some("running"));
        Ok(())
    }

    /// Ends what is begun.
    pub(super) async fn cancel(&mut self) -> anyhow::Result<()> {
        // The youngest first: none of them begins meanwhile.
        while let Some(job) = self.begun.pop_back() {
            // It may have ended by itself just now, which is a conflict.
            let cancelled = call(self.at, "POST", &format!("/api/v1/jobs/{job}/cancel"), None).await;
            let began = Instant::now();
            while !has_ended(&self.job(&job).await?) {
                if began.elapsed() > SILENCE {
                    return Err(cancelled.err().unwrap_or_else(|| anyhow::anyhow!("a cancelled job does not end")));
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

fn has_ended(job: &Value) -> bool {
    job.get("finishedAt").is_some_and(Value::is_string)
}

fn state(job: &Value) -> Option<&str> {
    job.get("state")?.as_str()
}
