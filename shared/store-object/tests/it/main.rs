//! The image store over what it is used with: a local directory, and a server that speaks S3 (`s3s-fs`, in this process,
//! with a directory of its own), where both keep every object as a file that the tests can look at.

#[cfg(test)]
mod bucket;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod each;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
