//! The arguments of `facewire people`: whose faces they are, changed by hand, and erasing.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use facewire_domain::{CollectionId, FaceId, SubjectId};
use time::OffsetDateTime;

use super::dead::moment;

#[derive(Debug, Args)]
pub(crate) struct People {
    #[command(subcommand)]
    pub(crate) command: PeopleCommand,
    /// The collection.
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    pub(crate) collection: CollectionId,
    /// One JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeopleCommand {
    /// Make one person of two: all faces of the first become the second's, and the first's id leads there.
    Merge {
        /// The external id of who is absorbed.
        #[arg(value_name = "FROM")]
        from: SubjectId,
        /// The external id of who stays.
        #[arg(value_name = "INTO")]
        into: SubjectId,
    },
    /// Make a new person of some faces of another.
    Split {
        /// The external id of the person who has the faces now.
        #[arg(value_name = "PERSON")]
        from: SubjectId,
        /// The external id of the new person.
        #[arg(long, value_name = "ID")]
        to: SubjectId,
        /// The new person's name; their external id unless given.
        #[arg(long)]
        name: Option<String>,
        /// The faces.
        #[arg(required = true, value_name = "FACE_ID")]
        faces: Vec<FaceId>,
    },
    /// Give faces to another person, or to nobody. Exit status 3 if some of them stay where they are.
    #[command(group = ArgGroup::new("who").required(true))]
    Assign {
        /// The external id of the person.
        #[arg(long, value_name = "ID", group = "who")]
        to: Option<SubjectId>,
        /// Nobody: the faces are kept, and recognition does not see them.
        #[arg(long, group = "who")]
        nobody: bool,
        /// Also faces of which somebody said that they are not that person's; what was said is forgotten.
        #[arg(long, conflicts_with = "nobody")]
        force: bool,
        /// The faces.
        #[arg(required = true, value_name = "FACE_ID")]
        faces: Vec<FaceId>,
    },
    /// Leave a person out of results: still recognised, and never named.
    Hide {
        /// The person's external id.
        #[arg(value_name = "PERSON")]
        person: SubjectId,
        /// Name them again.
        #[arg(long)]
        undo: bool,
    },
    /// Erase faces with everything kept of them, for good: embeddings, points, images, and what waits in streams; of a person
    /// also who results say it was. Exit status 3 if there is no such person or collection.
    Erase {
        /// What.
        #[command(flatten)]
        which: ErasureArgs,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        /// Have a job of the jobs service erase, and print its id. Once it has begun it cannot be cancelled.
        #[arg(long)]
        queue: bool,
    },
}

/// What is erased: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ErasureArgs {
    /// The external id of a person.
    #[arg(long, value_name = "ID")]
    pub(crate) person: Option<SubjectId>,
    /// Every face of this picture, however often it was enrolled.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Every face of the pictures to which the producer gave this id.
    #[arg(long, value_name = "ID")]
    pub(crate) asset: Option<String>,
    /// Every face that was stored before then: `90d` for 90 days ago, or a time as in RFC 3339.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) before: Option<OffsetDateTime>,
}
