//! The kept images and exports, in an object store: a local directory, or a bucket of an S3-compatible server. The only
//! crate that names `object_store`.

mod directory;
mod error;
mod export;
#[cfg(feature = "s3")]
mod http;
mod key;
mod options;
#[cfg(feature = "s3")]
mod s3;
mod scan;
mod store;

pub use error::ObjectError;
pub use export::{ExportKey, ListedExport};
pub use key::{ImageKey, ImageKind, InvalidKey};
pub use options::{Encryption, Options};
pub use scan::{Deleted, Listed, Page};
pub use store::{ImageStore, PutOutcome};
