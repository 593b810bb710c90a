//! The kinds of what is recorded in the audit trail and published on EVENTS: the list exists once. What is recorded of
//! each is in `audit` and with the changes themselves.

/// What happens to people, faces and collections, and to the jobs that change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A person was made.
    PersonCreated,
    /// A person's name, metadata or visibility changed.
    PersonUpdated,
    /// `person` was merged into `other`.
    PersonMerged,
    /// That was undone.
    PersonUnmerged,
    /// A person was erased.
    PersonErased,
    /// A face was enrolled for a person.
    FaceEnrolled,
    /// A face was given to a person (`person`; none: to nobody), or taken from one (`other`). Both are the same person where somebody
    /// confirmed that it is theirs, or withdrew that it is not.
    FaceAssigned,
    /// A face was removed.
    FaceRemoved,
    /// A collection was made.
    CollectionCreated,
    /// A collection's policy changed.
    CollectionUpdated,
    /// A collection was deleted with all that was in it.
    CollectionDeleted,
    /// The faces of an image were erased.
    AssetErased,
    /// What was stored before a time was erased.
    AgeErased,
    /// An import was begun.
    ImportCreated,
    /// An import was ended before its items were done.
    ImportCancelled,
    /// An import came to its end.
    ImportFinished,
    /// A job was made, and waits for a worker.
    JobCreated,
    /// A job came to its end; its state says to which.
    JobFinished,
    /// The faces of a cluster were given to a person.
    ClusterLabelled,
    /// A cluster was split into several.
    ClusterSplit,
    /// The clusters of a collection were computed anew, or faces joined them.
    ClustersChanged,
    /// A bulk change was undone.
    ActUndone,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::PersonCreated,
        Self::PersonUpdated,
        Self::PersonMerged,
        Self::PersonUnmerged,
        Self::PersonErased,
        Self::FaceEnrolled,
        Self::FaceAssigned,
        Self::FaceRemoved,
        Self::CollectionCreated,
        Self::CollectionUpdated,
        Self::CollectionDeleted,
        Self::AssetErased,
        Self::AgeErased,
        Self::ImportCreated,
        Self::ImportCancelled,
        Self::ImportFinished,
        Self::JobCreated,
        Self::JobFinished,
        Self::ClusterLabelled,
        Self::ClusterSplit,
        Self::ClustersChanged,
        Self::ActUndone,
    ];

    /// As rows and messages have it; on a subject the dot becomes `_`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PersonCreated => "person.created",
            Self::PersonUpdated => "person.updated",
            Self::PersonMerged => "person.merged",
            Self::PersonUnmerged => "person.unmerged",
            Self::PersonErased => "person.erased",
            Self::FaceEnrolled => "face.enrolled",
            Self::FaceAssigned => "face.assigned",
            Self::FaceRemoved => "face.removed",
            Self::CollectionCreated => "collection.created",
            Self::CollectionUpdated => "collection.updated",
            Self::CollectionDeleted => "collection.deleted",
            Self::AssetErased => "asset.erased",
            Self::AgeErased => "age.erased",
            Self::ImportCreated => "import.created",
            Self::ImportCancelled => "import.cancelled",
            Self::ImportFinished => "import.finished",
            Self::JobCreated => "job.created",
            Self::JobFinished => "job.finished",
            Self::ClusterLabelled => "cluster.labelled",
            Self::ClusterSplit => "cluster.split",
            Self::ClustersChanged => "clusters.changed",
            Self::ActUndone => "act.undone",
        }
    }

    /// The kind of that text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_read_again() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::parse("person.painted"), None);
    }
}
