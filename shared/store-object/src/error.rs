//! What can go wrong with the image store, sorted by what the caller can do about it. The messages are made here from a
//! status, a code or an error of the operating system: what a server answers, and the URLs of requests, can hold
//! credentials and are left out.

use std::error::Error;
use std::io;
use std::time::Duration;

use facewire_domain::{CollectionId, FaultKind};

/// A call to the image store failed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The store cannot be reached, is overloaded or failed on its side: wait and try again.
    #[error("the image store is not available ({operation}): {what}")]
    Unavailable {
        /// What was asked for.
        operation: &'static str,
        /// The status, code or error.
        what: String,
    },
    /// No answer in time: wait and try again.
    #[error("the image store did not answer in {waited:?} ({operation})")]
    Timeout {
        /// What was asked for.
        operation: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The store refused: credentials, permissions, region or certificate.
    #[error("the image store refused ({operation}): {what}")]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// The status, code or error.
        what: String,
    },
    /// There is no such bucket, or no such directory.
    #[error("the image store's bucket or directory does not exist")]
    NoBucket,
    /// A collection keeps images, and the service was given no store for them.
    #[error(
        "the collection {collection} keeps images, and there is no place for them: set images.url for this service, or its \
         keep_images to none"
    )]
    NoPlace {
        /// Which.
        collection: CollectionId,
    },
    /// The options cannot be used.
    #[error("image store options: {0}")]
    Options(String),
    /// The image is larger than the limit.
    #[error("an image of {size} bytes is larger than the image store's limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is not what the key, or the hash stored with it, says.
    #[error("the content of the image {key} does not have its hash")]
    Corrupt {
        /// The image's key.
        key: String,
    },
}

impl ObjectError {
    /// What the failure means for the item in hand and for its service.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Unavailable { .. } | Self::Timeout { .. } => FaultKind::Transient,
            Self::Refused { .. } | Self::NoBucket | Self::NoPlace { .. } | Self::Options(_) => FaultKind::Systemic,
            Self::TooLarge { .. } | Self::Corrupt { .. } => FaultKind::Poison,
        }
    }

    pub(crate) fn unavailable(operation: &'static str, what: impl Into<String>) -> Self {
        Self::Unavailable { operation, what: what.into() }
    }

    pub(crate) fn io(operation: &'static str, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        // The kind, not the message: that one can hold a path.
        let what = error.kind().to_string();
        match error.kind() {
            // A file where a directory should be is there already, too.
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::AlreadyExists => Self::Refused { operation, what },
            Kind::NotFound => Self::NoBucket,
            _ => Self::Unavailable { operation, what },
        }
    }

    pub(crate) fn of(operation: &'static str, error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        let answer = Answer::of(error);
        let what = answer.text();
        match error {
            _ if answer.code.as_deref() == Some("NoSuchBucket") => Self::NoBucket,
            Store::NotFound { .. } => Self::NoBucket,
            Store::PermissionDenied { .. }
            | Store::Unauthenticated { .. }
            | Store::NotImplemented { .. }
            | Store::NotSupported { .. }
            | Store::UnknownConfigurationKey { .. } => Self::Refused { operation, what },
            // Somebody else's name, which this crate cannot skip: the listing ends there.
            Store::InvalidPath { .. } => {
                Self::Refused { operation, what: "an object's name cannot be read".to_owned() }
            }
            _ if answer.is_refusal() => Self::Refused { operation, what },
            _ => match answer.io {
                Some(error) => Self::io(operation, error),
                None => Self::Unavailable { operation, what },
            },
        }
    }
}

/// What is known of a failed request.
#[derive(Default)]
struct Answer<'a> {
    status: Option<u16>,
    code: Option<String>,
    redirect: bool,
    io: Option<&'a io::Error>,
    #[cfg(feature = "s3")]
    transport: Option<&'a crate::http::TransportError>,
}

impl<'a> Answer<'a> {
    fn of(error: &'a object_store::Error) -> Self {
        let mut answer = Self::default();
        let mut link: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = link {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                answer.io.get_or_insert(error);
            }
            #[cfg(feature = "s3")]
            if let Some(error) = error.downcast_ref::<crate::http::TransportError>() {
                answer.transport.get_or_insert(error);
            }
            answer.read(&error.to_string());
            link = error.source();
        }
        answer
    }

    /// The client's own error type has no name outside its crate, so its text is read.
    fn read(&mut self, text: &str) {
        let number = between(text, "non-2xx status code: ", " ").and_then(|status| status.parse().ok());
        self.status = self.status.or(number);
        let code = between(text, "<Code>", "</Code>").or_else(|| between(text, "(code: ", ")"));
        let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.code = self.code.take().or_else(|| code.filter(plain).map(str::to_owned));
        self.redirect |= text.starts_with("Received redirect without LOCATION");
    }

    fn is_refusal(&self) -> bool {
        #[cfg(feature = "s3")]
        if self.transport.is_some_and(|error| error.certificate) {
            return true;
        }
        // Known by name where only one object of many was refused, so that there is no status.
        let named = self.code.as_deref() == Some("AccessDenied");
        // 501: a server that lacks something which is needed here, such as conditional writes.
        let refused = |status| status == 501 || status < 500 && ![408, 409, 429].contains(&status);
        named || self.redirect || self.status.is_some_and(refused)
    }

    fn text(&self) -> String {
        #[cfg(feature = "s3")]
        if let Some(error) = self.transport {
            return error.to_string();
        }
        let redirect = || "redirected: the region or the endpoint is not the bucket's".to_owned();
        match (self.status, self.code.as_deref()) {
            (Some(status), Some(code)) => format!("status {status}, {code}"),
            (Some(status), None) if (300..400).contains(&status) => redirect(),
            (Some(status), None) => format!("status {status}"),
            (None, Some(code)) => code.to_owned(),
            (None, None) if self.redirect => redirect(),
            (None, None) => self.io.map_or_else(|| "unknown error".to_owned(), |error| error.kind().to_string()),
        }
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(inner, _)| inner)
}

impl facewire_domain::Fault for ObjectError {
    fn kind(&self) -> FaultKind {
        self.kind()
    }

    fn system(&self) -> &'static str {
        "object-store"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn an_answer_is_sorted_by_status_and_code() {
        let kind = |text: &str| ObjectError::of("get", &generic(text)).kind();
        let status = |status: &str| kind(&format!("Server returned non-2xx status code: {status}: body"));
        for away in ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests", "408 Request Timeout"] {
            assert_eq!(status(away), FaultKind::Transient, "{away}");
        }
        for refused in ["400 Bad Request", "301 Moved Permanently", "405 Method Not Allowed", "411 Length Required"] {
            assert_eq!(status(refused), FaultKind::Systemic, "{refused}");
        }
        assert_eq!(kind("Received redirect without LOCATION, this"), FaultKind::Systemic);
        assert_eq!(kind("DeleteObjects request failed for key x: no (code: AccessDenied)"), FaultKind::Systemic);
        assert_eq!(kind("DeleteObjects request failed for key x: no (code: InternalError)"), FaultKind::Transient);
        assert!(matches!(ObjectError::of("put", &generic("<Code>NoSuchBucket</Code>")), ObjectError::NoBucket));
    }

    #[test]
    fn what_a_server_answers_is_not_repeated() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>hunter2</AWSAccessKeyId></Error>";
        let error = ObjectError::of("get", &generic(&format!("non-2xx status code: 403 Forbidden: {body}")));
        assert_eq!(error.to_string(), "the image store refused (get): status 403, SignatureDoesNotMatch");
        assert!(!format!("{error:?}").contains("hunter2"));
        let odd = ObjectError::of("get", &generic("<Code>hunter 2</Code>"));
        assert!(!format!("{odd} {odd:?}").contains("hunter"));
    }

    #[test]
    fn the_disk_decides_what_its_errors_mean() {
        let kind = |kind: io::ErrorKind| ObjectError::io("put", &kind.into()).kind();
        assert_eq!(kind(io::ErrorKind::PermissionDenied), FaultKind::Systemic);
        assert_eq!(kind(io::ErrorKind::StorageFull), FaultKind::Transient);
        let wrapped = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)),
        };
        assert_eq!(ObjectError::of("put", &wrapped).kind(), FaultKind::Systemic);
    }
}
