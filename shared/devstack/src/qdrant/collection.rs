//! One collection: an engine shard in a directory of its own, its journal, and the list of payload indexes. All calls
//! block; none may be made on the async runtime.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;
use qdrant_client::qdrant::{self as grpc, CreateCollection, PointsUpdateOperation};
use qdrant_edge::{
    CreateIndex, EdgeConfig, EdgeShard, FieldIndexOperations, PayloadFieldSchema, PointId, ScrollRequest,
    UpdateOperation, WithPayloadInterface, WithVector,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tonic::Status;

use super::convert::{path as json_path, status};
use super::journal::Journal;
use super::strict::Strict;
use super::{filter, update, wal};

const META: &str = "collection.json";
const SHARD: &str = "shard";
const JOURNAL: &str = "journal";
/// The request that made the collection, with what was changed since: what the engine does not keep is shown from it.
const SETTINGS: &str = "settings";
/// Flushed at the next look when the journal is longer, even while writes go on.
const JOURNAL_LIMIT: u64 = 8 * 1024 * 1024;
/// After as many bytes of writes the engine's own log is cut, even while no flush is possible: it is mapped memory.
const LOG_LIMIT: u64 = 16 * 1024 * 1024;
/// Points outside an index from which the optimizer runs even while writes go on: a plain scan of as many takes some
/// tens of milliseconds.
const BACKLOG_LIMIT: usize = 50_000;
/// Ids a page when a filter is resolved.
const PAGE: usize = 4096;

/// What a collection is, beside the engine's own configuration. Its file is written last at creation and removed first
/// at deletion: a directory without it is garbage.
#[derive(Clone, Serialize, Deserialize)]
struct Meta {
    name: String,
    indexes: BTreeMap<String, PayloadFieldSchema>,
    /// In seconds since 1970.
    #[serde(default)]
    created_at: i64,
}

/// What one writer at a time may touch.
pub(super) struct Writer {
    journal: Journal,
    meta: Meta,
    operations: u64,
    seen: u64,
    unoptimized: bool,
    // Bytes since the engine's log was cut.
    logged: u64,
}

/// A collection that is open. Its directory goes with the last user once it is deleted.
pub(super) struct Collection {
    name: String,
    dim: usize,
    // Before `home`: fields are dropped in this order, and the shard flushes itself into the directory.
    shard: EdgeShard,
    writer: Arc<Mutex<Writer>>,
    optimizing: AtomicBool,
    settings: RwLock<CreateCollection>,
    // What `settings` and the indexes come to.
    strict: RwLock<Option<Arc<Strict>>>,
    created_at: i64,
    home: Home,
}

struct Home {
    dir: PathBuf,
    deleted: AtomicBool,
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.deleted.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(%error, "a deleted collection's directory stays until the next start");
        }
    }
}

/// The engine locks its log for itself, and closes the file without unlocking it: a child that another thread forked just
/// then keeps the lock until its exec. The directory is ours, so whoever holds it is such a child and is gone at once.
fn load(shard_dir: &Path) -> Result<EdgeShard, OpenError> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let started = Instant::now();
    loop {
        match EdgeShard::load(shard_dir, None) {
            Err(error) if error.to_string().contains("WouldBlock") && started.elapsed() < TIMEOUT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            loaded => return Ok(loaded?),
        }
    }
}

/// Why a collection's directory could not be opened.
pub(super) type OpenError = Box<dyn std::error::Error + Send + Sync>;

impl Collection {
    /// Makes a collection in `dir`, which must not exist.
    pub(super) fn create(dir: PathBuf, settings: CreateCollection, config: EdgeConfig) -> Result<Self, Status> {
        let made = || -> Result<Self, OpenError> {
            let shard_dir = dir.join(SHARD);
            fs::create_dir_all(&shard_dir)?;
            let shard = EdgeShard::new(&shard_dir, config)?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
            let name = settings.collection_name.clone();
            let meta = Meta { name, indexes: BTreeMap::new(), created_at: i64::try_from(now)? };
            replace_file(&dir.join(SETTINGS), &settings.encode_to_vec())?;
            save(&dir, &meta)?;
            let journal = Journal::open(&dir.join(JOURNAL), |_| ())?;
            Ok(Self::assemble(dir.clone(), shard, journal, meta, settings))
        };
        made().map_err(|error| {
            let _ = fs::remove_dir_all(&dir);
            Status::internal(format!("Service internal error: the collection could not be made: {error}"))
        })
    }

    /// Opens a collection and replays its journal. `None`: the directory is what a crash left of a creation or a
    /// deletion, and is removed.
    pub(super) fn open(dir: PathBuf) -> Result<Option<Self>, OpenError> {
        let meta = match fs::read(dir.join(META)) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::remove_dir_all(&dir)?;
                return Ok(None);
            }
            // A disk that fails, or too many open files, says nothing of the collection.
            Err(error) => return Err(error.into()),
        };
        let meta: Meta = serde_json::from_slice(&meta)?;
        let shard_dir = dir.join(SHARD);
        // An interrupted optimization leaves its workpiece here.
        let _ = fs::remove_dir_all(shard_dir.join("temp_segments"));
        let shard = load(&shard_dir)?;
        for (field, schema) in &meta.indexes {
            shard.update(create_index(field, schema.clone())?)?;
        }
        let dim = dimension(&shard);
        let mut replayed = 0_u64;
        let journal = Journal::open(&dir.join(JOURNAL), |operation| {
            replayed += 1;
            if let Err(error) = replay(&shard, dim, operation) {
                tracing::warn!(%error, collection = meta.name, "a journal entry could not be replayed");
            }
        })?;
        if replayed > 0 {
            tracing::info!(replayed, collection = meta.name, "writes after the last flush were replayed");
        }
        let doubled = super::dedup::dedup(&shard)?;
        if doubled > 0 {
            tracing::info!(
                doubled,
                collection = meta.name,
                "points that an interrupted optimization doubled are single again"
            );
        }
        let settings = match fs::read(dir.join(SETTINGS)) {
            Ok(bytes) => CreateCollection::decode(&*bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => CreateCollection::default(),
            Err(error) => return Err(error.into()),
        };
        let collection = Self::assemble(dir, shard, journal, meta, settings);
        collection.flush(&mut collection.writer.blocking_lock())?;
        Ok(Some(collection))
    }

    fn assemble(dir: PathBuf, shard: EdgeShard, journal: Journal, meta: Meta, settings: CreateCollection) -> Self {
        let strict = Strict::of(settings.strict_mode_config.as_ref(), &meta.indexes).map(Arc::new);
        Self {
            name: meta.name.clone(),
            settings: RwLock::new(settings),
            strict: RwLock::new(strict),
            created_at: meta.created_at,
            dim: dimension(&shard),
            shard,
            writer: Arc::new(Mutex::new(Writer {
                journal,
                meta,
                operations: 0,
                seen: 0,
                unoptimized: true,
                logged: 0,
            })),
            optimizing: AtomicBool::new(false),
            home: Home { dir, deleted: AtomicBool::new(false) },
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its vectors' dimension.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// The engine, for reading.
    pub(super) fn shard(&self) -> &EdgeShard {
        &self.shard
    }

    /// As it was asked for, with what was changed since.
    pub(super) fn settings(&self) -> CreateCollection {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When it was made, in seconds since 1970.
    pub(super) fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Its strict mode, where that is on.
    pub(super) fn strict(&self) -> Option<Arc<Strict>> {
        self.strict.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it was asked for.
    pub(super) fn change_settings(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&mut CreateCollection),
    ) -> Result<(), Status> {
        let mut settings = self.settings();
        change(&mut settings);
        replace_file(&self.home.dir.join(SETTINGS), &settings.encode_to_vec()).map_err(storage)?;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.update_strict(&writer.meta);
        Ok(())
    }

    fn update_strict(&self, meta: &Meta) {
        let strict = Strict::of(self.settings().strict_mode_config.as_ref(), &meta.indexes).map(Arc::new);
        *self.strict.write().unwrap_or_else(PoisonError::into_inner) = strict;
    }

    /// The turn to write: wait for it on the runtime, not on a blocking thread.
    pub(super) fn writer(&self) -> Arc<Mutex<Writer>> {
        Arc::clone(&self.writer)
    }

    /// Whether the optimizer is at work.
    pub(super) fn is_optimizing(&self) -> bool {
        self.optimizing.load(Ordering::Relaxed)
    }

    /// Makes the directory go with the last user. From here on a restart does not find the collection.
    pub(super) fn delete(&self) -> io::Result<()> {
        fs::remove_file(self.home.dir.join(META))?;
        self.home.deleted.store(true, Ordering::Release);
        Ok(())
    }

    /// Applies a write and journals it: when this returns, a killed process has it at its next start. Gives the
    /// operation's number.
    pub(super) fn apply(&self, writer: &mut Writer, operation: PointsUpdateOperation) -> Result<u64, Status> {
        if let Some(strict) = self.strict() {
            let (points, filter) = update::extent(&operation);
            strict.write(points, filter)?;
        }
        let operation = update::pin(operation, |filter| self.matching(filter))?;
        let entry = operation.encode_to_vec();
        if let Some(operation) = update::compile(operation, self.dim)? {
            self.shard.update(operation).map_err(status)?;
            writer.journal.append(&entry).map_err(storage)?;
            writer.unoptimized = true;
            writer.logged += entry.len() as u64;
            if writer.logged > LOG_LIMIT {
                self.report("cut the engine's log", self.trim(writer));
            }
        }
        writer.operations += 1;
        Ok(writer.operations)
    }

    /// The ids that a filter matches now.
    fn matching(&self, filter: grpc::Filter) -> Result<Vec<PointId>, Status> {
        let filter = filter::required(filter)?;
        let (mut ids, mut offset) = (Vec::new(), None);
        loop {
            let (page, next) = self
                .shard
                .scroll(ScrollRequest {
                    offset,
                    limit: Some(PAGE),
                    filter: Some(filter.clone()),
                    with_payload: Some(WithPayloadInterface::Bool(false)),
                    with_vector: WithVector::Bool(false),
                    order_by: None,
                })
                .map_err(status)?;
            ids.extend(page.into_iter().map(|record| record.id));
            offset = next;
            if offset.is_none() {
                return Ok(ids);
            }
        }
    }

    /// Indexes a payload field.
    pub(super) fn create_index(
        &self,
        writer: &mut Writer,
        field: &str,
        schema: PayloadFieldSchema,
    ) -> Result<u64, Status> {
        self.shard.update(create_index(field, schema.clone())?).map_err(status)?;
        let mut meta = writer.meta.clone();
        meta.indexes.insert(field.to_owned(), schema);
        self.remember(writer, meta)
    }

    /// Drops a field's index; a field without one is fine.
    pub(super) fn delete_index(&self, writer: &mut Writer, field: &str) -> Result<u64, Status> {
        let operation = FieldIndexOperations::DeleteIndex(json_path(field)?);
        self.shard.update(UpdateOperation::FieldIndexOperation(operation)).map_err(status)?;
        let mut meta = writer.meta.clone();
        meta.indexes.remove(field);
        self.remember(writer, meta)
    }

    fn remember(&self, writer: &mut Writer, meta: Meta) -> Result<u64, Status> {
        save(&self.home.dir, &meta).map_err(storage)?;
        self.update_strict(&meta);
        writer.meta = meta;
        writer.operations += 1;
        Ok(writer.operations)
    }

    /// Brings everything to the disk and empties the journal. Not while the optimizer works on this collection: the
    /// engine's flush panics when it meets a lock.
    pub(super) fn flush(&self, writer: &mut Writer) -> io::Result<()> {
        let flushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.shard.flush()));
        flushed.map_err(|_| io::Error::other("the vector engine could not flush its segments"))?;
        writer.journal.clear()?;
        self.trim(writer)
    }

    fn trim(&self, writer: &mut Writer) -> io::Result<()> {
        writer.logged = 0;
        wal::trim(&self.shard.path().join("wal"))
    }

    /// Flushes and optimizes as far as it is due. Only one thread may call this, and nobody else `flush`, at a time.
    pub(super) fn maintain(&self) {
        let due = {
            let mut writer = self.writer.blocking_lock();
            let quiet = writer.seen == writer.operations;
            writer.seen = writer.operations;
            let bytes = writer.journal.bytes();
            if (quiet && bytes > 0) || bytes > JOURNAL_LIMIT {
                self.report("flush", self.flush(&mut writer));
            }
            let due = writer.unoptimized && (quiet || self.backlog() > BACKLOG_LIMIT);
            writer.unoptimized &= !due;
            self.optimizing.store(due, Ordering::Relaxed);
            due
        };
        if due {
            let optimized = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.shard.optimize()));
            self.optimizing.store(false, Ordering::Relaxed);
            match optimized {
                Ok(Ok(true)) => self.report("flush", self.flush(&mut self.writer.blocking_lock())),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => self.report("optimize", Err(error)),
                Err(_) => self.report("optimize", Err("the vector engine panicked")),
            }
        }
    }

    fn backlog(&self) -> usize {
        let info = self.shard.info();
        info.points_count.saturating_sub(info.indexed_vectors_count)
    }

    fn report<E: std::fmt::Display>(&self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            tracing::warn!(%error, collection = self.name, "the local Qdrant could not {what}");
        }
    }
}

fn storage(error: io::Error) -> Status {
    Status::internal(format!("Service internal error: storage: {error}"))
}

/// Zero cannot happen: `create` is given one unnamed vector.
fn dimension(shard: &EdgeShard) -> usize {
    shard.config().vectors.get(qdrant_edge::DEFAULT_VECTOR_NAME).map_or(0, |params| params.size)
}

fn create_index(field: &str, schema: PayloadFieldSchema) -> Result<UpdateOperation, Status> {
    let create = CreateIndex { field_name: json_path(field)?, field_schema: Some(schema) };
    Ok(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create)))
}

fn replay(shard: &EdgeShard, dim: usize, operation: PointsUpdateOperation) -> Result<(), Status> {
    let operation = update::keep(operation, |ids| {
        let records = shard.retrieve(&ids, Some(WithPayloadInterface::Bool(false)), None).map_err(status)?;
        Ok(records.into_iter().map(|record| record.id).collect())
    })?;
    match update::compile(operation, dim)? {
        Some(operation) => shard.update(operation).map_err(status),
        None => Ok(()),
    }
}

/// Written beside and renamed over: a crash leaves the old file or the new one.
fn save(dir: &Path, meta: &Meta) -> io::Result<()> {
    write_json(&dir.join(META), meta)
}

/// Replaces a JSON file as a whole, synced.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace_file(path, &serde_json::to_vec_pretty(value)?)
}

fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
