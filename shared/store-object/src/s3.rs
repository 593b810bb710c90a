//! The bucket of an S3-compatible server.

use std::env;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::http::Connector;
use crate::options::refuse;
use crate::{Encryption, ObjectError, Options};

/// What platforms set to give a machine or pod its identity. Nothing else is read from the environment.
const IDENTITY: [(&str, AmazonS3ConfigKey); 6] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

pub(crate) fn open(
    options: &Options,
    bucket: &str,
    prefix: &str,
) -> Result<(Box<dyn ObjectStore>, Probe), ObjectError> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&options.region)
        .with_virtual_hosted_style_request(!options.path_style)
        .with_retry(retries(options.timeout))
        .with_http_connector(Connector::new(options.ca_file.as_deref(), options.timeout.min(Duration::from_secs(5)))?);
    if let Some(endpoint) = options.endpoint_for(bucket)? {
        builder =
            builder.with_allow_http(endpoint.scheme() == "http").with_endpoint(endpoint.as_str().trim_end_matches('/'));
    }
    builder = with_credentials(builder, options)?;
    builder = match &options.sse {
        None => builder,
        Some(Encryption::Kms(key)) => builder.with_sse_kms_encryption(key),
        Some(Encryption::Aes256) => {
            let key = "aws_server_side_encryption".parse().map_err(|_| refuse("this build has no sse"))?;
            builder.with_config(key, "AES256")
        }
    };
    // Its own message can quote an option.
    let store = builder.build().map_err(|_| refuse("the bucket's options do not fit together"))?;
    let probe = Probe { store: store.clone(), prefix: (!prefix.is_empty()).then(|| format!("{prefix}/")) };
    Ok((Box::new(PrefixStore::new(store, prefix)), probe))
}

/// The cheapest question that shows whether the bucket can be used.
pub(crate) struct Probe {
    store: AmazonS3,
    prefix: Option<String>,
}

impl Probe {
    /// Lists one object.
    pub(crate) async fn ask(&self) -> object_store::Result<()> {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        self.store.list_paginated(self.prefix.as_deref(), options).await.map(drop)
    }
}

/// A few quick repetitions for a connection that broke or a server that is busy; waiting longer is the caller's.
fn retries(timeout: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_secs(1), base: 2. };
    RetryConfig { backoff, max_retries: 3, retry_timeout: timeout }
}

fn with_credentials(builder: AmazonS3Builder, options: &Options) -> Result<AmazonS3Builder, ObjectError> {
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            let usable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            if !usable(id.expose()) || !usable(secret.expose()) {
                return Err(refuse("access_key_id and secret_access_key are printable ASCII without spaces"));
            }
            Ok(builder.with_access_key_id(id.expose()).with_secret_access_key(secret.expose()))
        }
        (None, None) => {
            let set = IDENTITY.into_iter().filter_map(|(name, key)| Some((key, env::var(name).ok()?)));
            Ok(set.fold(builder, |builder, (key, value)| builder.with_config(key, value)))
        }
        _ => Err(refuse("access_key_id and secret_access_key belong together: one of them is missing")),
    }
}
