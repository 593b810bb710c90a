//! A cluster's faces given to a person with one word: a name, which may be new, or somebody who is known. Undoing it is done
//! elsewhere, and so is giving single faces to people.

use std::collections::HashSet;

use facewire_domain::{CollectionId, FaceId, PersonId, SubjectId};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::act_moves::{Move, Moved, Moving, Only, move_faces};
use crate::acts::{ActKind, ClusterChange, note_clusters, note_detail, open};
use crate::audit::{Actor, EventKind, NewEvent, record, record_all};
use crate::enrol_plan::clean_name;
use crate::erasure_jobs::any_is_being_erased;
use crate::error::StoreError;
use crate::negatives;
use crate::persons::{lock_collections, name_key, present_in};
use crate::prototypes::add_exemplars;
use crate::row::row;
use crate::store::{Store, run, text};

/// Whose a cluster's faces are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelTarget<'a> {
    /// The person of this name, ignoring case; nobody has it: a new one.
    Name(&'a str),
    /// This person.
    Person(PersonId),
}

/// What a label did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// By which it is undone; nil where nothing was to be done.
    pub act: Uuid,
    /// Whose faces they are; after a merge the person that took over. Nil for one who is not made yet.
    pub person: PersonId,
    /// How the person is called.
    pub person_name: String,
    /// The person is new.
    pub created: bool,
    /// The faces that are theirs: their points are to be written.
    pub faces: Vec<FaceId>,
    /// Faces of which somebody said that they are not this person's: they stay nobody's, and leave the cluster. Their points are
    /// to be written as well.
    pub refused: Vec<FaceId>,
    /// Those of the faces that stand for the person as exemplars from now on.
    pub prototypes: Vec<FaceId>,
}

/// What became of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOutcome {
    /// It is done; or this is what it would do.
    Done(Labelled),
    /// There is no such cluster, or no face is left in it.
    NoCluster,
    /// The collection has no such person. Whoever was merged into another stands for that one.
    NoPerson,
    /// The cluster's faces are this person's already. Undo that first.
    AlreadyLabelled(PersonId),
}

row! {
    struct Target {
        person_id: Uuid,
        name: String,
    }
}

/// Who is meant.
enum Who {
    Known(Target),
    /// Under this name.
    New(String),
}

const BY_NAME: &str = "SELECT person_id FROM persons WHERE collection = $1 AND name_key = $2";

const BY_ID: &str = "SELECT person_id, name FROM persons WHERE person_id = $1";

const NEW: &str = "INSERT INTO persons (person_id, collection, subject_id, name, name_key) VALUES ($1, $2, $3, $4, $5)";

const FIND: &str = "SELECT cluster_id, person_id FROM clusters
                    WHERE collection = $1 AND public_id = $2 AND dissolved_at IS NULL";

// Its faces, the best first.
const FACES: &str = "
SELECT face_id FROM faces WHERE cluster_id = $1 AND person_id IS NULL AND vector_state <> 'tombstoned'
ORDER BY (quality->>'score')::real DESC NULLS LAST, face_id FOR UPDATE";

/// What is to be labelled, and how.
struct Label<'a> {
    collection: &'a CollectionId,
    public_id: &'a str,
    target: LabelTarget<'a>,
    /// The external id of a person who is new.
    subject: &'a SubjectId,
    exemplars: usize,
    dry_run: bool,
}

impl Store {
    /// Gives the faces of a cluster to a person; the cluster is called as the person from then on, and no face joins it any more.
    /// A person who is new gets `person_<uuid>` as external id. The best `exemplars` of the faces, by quality, become exemplars
    /// of the person at once, until all of the person's are chosen anew. `dry_run`: only tells what would be done.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name without a visible character; [`StoreError::BeingErased`] where an unfinished erasure
    /// concerns the person.
    pub async fn label_cluster(
        &self,
        collection: &CollectionId,
        public_id: &str,
        target: LabelTarget<'_>,
        exemplars: u32,
        dry_run: bool,
        actor: &Actor,
    ) -> Result<LabelOutcome, StoreError> {
        let name = match target {
            LabelTarget::Name(name) => Some(clean_name(name).ok_or(NAMELESS)?),
            LabelTarget::Person(_) => None,
        };
        let target = name.as_deref().map_or(target, LabelTarget::Name);
        let public_id = text(public_id);
        let exemplars = usize::try_from(exemplars).unwrap_or(usize::MAX);
        let subject = format!("person_{}", Uuid::new_v4()).parse::<SubjectId>();
        let subject = subject.map_err(|_| StoreError::Invalid { index: 0, what: "an external id cannot be made" })?;
        let label = Label { collection, public_id: &public_id, target, subject: &subject, exemplars, dry_run };
        let faces = match self.cluster(collection, &public_id).await? {
            Some(cluster) => usize::try_from(cluster.faces).unwrap_or(usize::MAX),
            None => return Ok(LabelOutcome::NoCluster),
        };
        run!(self, "label cluster", within self.bulk_patience(faces), connection => {
            apply(connection, &label, actor).await
        })?
    }
}

const NAMELESS: StoreError = StoreError::Invalid { index: 0, what: "a name has at least one visible character" };

/// What an attempt came to; refused where the person is being erased.
type Attempt = Result<LabelOutcome, StoreError>;

async fn apply(connection: &mut PgConnection, label: &Label<'_>, actor: &Actor) -> Result<Attempt, sqlx::Error> {
    let collection = label.collection.as_str();
    let mut tx = connection.begin().await?;
    lock_collections(&mut tx, &[collection]).await?;
    let found: Option<(Uuid, Option<Uuid>)> =
        sqlx::query_as(FIND).bind(collection).bind(label.public_id).fetch_optional(&mut *tx).await?;
    let Some((cluster, labelled)) = found else { return Ok(Ok(LabelOutcome::NoCluster)) };
    if let Some(person) = labelled {
        let present = present_in(&mut tx, collection, &[person]).await?;
        return Ok(Ok(LabelOutcome::AlreadyLabelled(present.get(&person).copied().unwrap_or(person).into())));
    }
    let faces: Vec<Uuid> = sqlx::query_scalar(FACES).bind(cluster).fetch_all(&mut *tx).await?;
    if faces.is_empty() {
        return Ok(Ok(LabelOutcome::NoCluster));
    }
    let who = match who(&mut tx, collection, label.target).await? {
        Ok(Some(who)) => who,
        Ok(None) => return Ok(Ok(LabelOutcome::NoPerson)),
        Err(error) => return Ok(Err(error)),
    };
    let refused: HashSet<Uuid> = match &who {
        Who::Known(person) => negatives::negative_for(&mut tx, &faces, person.person_id).await?.into_iter().collect(),
        Who::New(_) => HashSet::new(),
    };
    let (refused, allowed): (Vec<Uuid>, Vec<Uuid>) = faces.into_iter().partition(|face| refused.contains(face));
    let plan = Plan { cluster, best: allowed.iter().take(label.exemplars).copied().collect(), allowed, refused };
    if label.dry_run || plan.allowed.is_empty() {
        return Ok(Ok(LabelOutcome::Done(plan.told(who))));
    }
    let done = write(&mut tx, label, plan, who, actor).await?;
    tx.commit().await?;
    Ok(Ok(LabelOutcome::Done(done)))
}

/// Who is meant; `None`: the collection has no such person. Refused where they are being erased.
async fn who(
    connection: &mut PgConnection,
    collection: &str,
    target: LabelTarget<'_>,
) -> Result<Result<Option<Who>, StoreError>, sqlx::Error> {
    let asked = match target {
        LabelTarget::Person(person) => person.as_uuid(),
        LabelTarget::Name(name) => {
            let query = sqlx::query_scalar(BY_NAME).bind(collection).bind(name_key(name));
            let known: Option<Uuid> = query.fetch_optional(&mut *connection).await?;
            let Some(person) = known else { return Ok(Ok(Some(Who::New(name.to_owned())))) };
            person
        }
    };
    let present = present_in(connection, collection, &[asked]).await?.remove(&asked);
    // The faces would be erased with them. Their row may be gone before all of it is.
    let concerned: Vec<Uuid> = present.into_iter().chain([asked]).collect();
    if any_is_being_erased(connection, collection, &concerned).await? {
        return Ok(Err(StoreError::BeingErased));
    }
    let Some(person) = present else { return Ok(Ok(None)) };
    let found: Option<Target> = sqlx::query_as(BY_ID).bind(person).fetch_optional(connection).await?;
    Ok(Ok(found.map(Who::Known)))
}

/// What is to be done with which faces.
struct Plan {
    cluster: Uuid,
    /// By quality.
    allowed: Vec<Uuid>,
    refused: Vec<Uuid>,
    best: Vec<Uuid>,
}

impl Plan {
    /// What would be done.
    fn told(self, who: Who) -> Labelled {
        let (person, person_name, created) = match who {
            Who::Known(person) => (person.person_id, person.name, false),
            Who::New(name) => (Uuid::nil(), name, true),
        };
        Labelled {
            act: Uuid::nil(),
            person: person.into(),
            person_name,
            created,
            faces: faces(self.allowed),
            refused: faces(self.refused),
            prototypes: faces(self.best),
        }
    }

    /// By face.
    fn moves(&self, person: Uuid) -> Vec<Move> {
        let theirs = self.allowed.iter().map(|face| Move::unjudged(*face, Some(person), Some(self.cluster)));
        let refused = self.refused.iter().map(|face| Move::unjudged(*face, None, None));
        let mut moves: Vec<Move> = theirs.chain(refused).collect();
        moves.sort_by_key(|face| face.face);
        moves
    }
}

fn faces(ids: Vec<Uuid>) -> Vec<FaceId> {
    ids.into_iter().map(FaceId::from).collect()
}

/// Writes the person, where they are new, the faces, the cluster, the exemplars and what is said of it.
async fn write(
    connection: &mut PgConnection,
    label: &Label<'_>,
    plan: Plan,
    who: Who,
    actor: &Actor,
) -> Result<Labelled, sqlx::Error> {
    const SET: &str = "UPDATE clusters SET person_id = $2, updated_at = clock_timestamp() WHERE cluster_id = $1";
    let collection = label.collection.as_str();
    let (person, created) = match &who {
        Who::Known(person) => (person.person_id, false),
        Who::New(name) => (create(connection, label, name, actor).await?, true),
    };
    let act = open(connection, collection, ActKind::Label, None, actor).await?;
    let (by, confirmed) = (actor.stored_name(), !actor.is_job());
    let moving = Moving { act, collection, only: Only::OfCluster(plan.cluster), by: &by, confirmed };
    let moved = move_faces(connection, moving, &plan.moves(person)).await?;
    sqlx::query(SET).bind(plan.cluster).bind(person).execute(&mut *connection).await?;
    note_clusters(connection, act, &[plan.cluster], ClusterChange::Labelled).await?;
    add_exemplars(connection, collection, person, &plan.best).await?;
    let detail = serde_json::json!({
        "clusterId": label.public_id, "created": created, "faces": plan.allowed.len(), "refused": plan.refused.len(),
    });
    note_detail(connection, act, &detail).await?;
    record_label(connection, label, person, act, &moved, actor).await?;
    Ok(Labelled { act, person: person.into(), created, ..plan.told(who) })
}

/// Makes the person.
async fn create(
    connection: &mut PgConnection,
    label: &Label<'_>,
    name: &str,
    actor: &Actor,
) -> Result<Uuid, sqlx::Error> {
    let collection = label.collection.as_str();
    let person = PersonId::derive(label.collection, label.subject);
    sqlx::query(NEW)
        .bind(person.as_uuid())
        .bind(collection)
        .bind(label.subject.as_str())
        .bind(name)
        .bind(name_key(name))
        .execute(&mut *connection)
        .await?;
    let event = NewEvent::of(collection, EventKind::PersonCreated);
    record(connection, actor, NewEvent { person: Some(person), ..event }).await?;
    Ok(person.as_uuid())
}

/// Records each face that is the person's now, and the label.
async fn record_label(
    connection: &mut PgConnection,
    label: &Label<'_>,
    person: Uuid,
    act: Uuid,
    moved: &[Moved],
    actor: &Actor,
) -> Result<(), sqlx::Error> {
    let collection = label.collection.as_str();
    let person = Some(PersonId::from(person));
    let given = moved.iter().filter(|face| face.person_id.is_some());
    let mut events: Vec<NewEvent<'_>> = given
        .map(|face| NewEvent {
            person,
            face: Some(face.face_id.into()),
            detail: serde_json::json!({ "actId": act }),
            ..NewEvent::of(collection, EventKind::FaceAssigned)
        })
        .collect();
    let detail = serde_json::json!({ "actId": act, "clusterId": label.public_id, "faces": events.len() });
    events.push(NewEvent { person, detail, ..NewEvent::of(collection, EventKind::ClusterLabelled) });
    record_all(connection, actor, &events).await
}
