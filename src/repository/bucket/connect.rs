//! A location and the variables of its ecosystem, into clients of the store.

use super::super::access::Access;
use super::super::location::Scheme;
use crate::error::{Error, Result};
use crate::secret::Secret;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that one signature is used for: what is tried again after it is signed anew, by then perhaps with
/// other credentials.
const ONE_SIGNATURE: Duration = Duration::from_mins(1);

/// Other tools' names for what the client calls differently.
const ALIASES: [(&str, &str); 3] = [
    ("AZURE_STORAGE_ACCOUNT", "azure_storage_account_name"),
    ("AZURE_STORAGE_KEY", "azure_storage_account_key"),
    ("GOOGLE_CREDENTIALS", "google_service_account_key"),
];

/// The two faces of one client.
pub(super) struct Clients {
    pub objects: Arc<dyn ObjectStore>,
    pub parts: Arc<dyn MultipartStore>,
}

/// Makes the clients; nothing is asked of the store yet.
///
/// # Errors
/// Usage where the variables do not say enough.
pub(super) fn connect(scheme: Scheme, bucket: &str, access: &Access) -> Result<Clients> {
    match scheme {
        Scheme::S3 => s3(bucket, access),
        Scheme::Azure => azure(bucket, access),
        Scheme::Gcs => gcs(bucket, access),
    }
}

fn retries(access: &Access) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.,
        },
        max_retries: 4,
        retry_timeout: access.patience.min(ONE_SIGNATURE),
    }
}

/// Plain HTTP only where an address says so itself.
fn options(access: &Access, plain: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(plain)
        .with_http1_only()
        .with_connect_timeout(CONNECT_TIMEOUT.min(access.request_timeout))
        .with_timeout(access.request_timeout)
}

fn is_plain(access: &Access, names: &[&str]) -> bool {
    let mut values = names.iter().filter_map(|name| access.variable(name));
    values.any(|value| value.starts_with("http://"))
}

/// The variables under the names that the client knows.
fn named<'a, K: std::str::FromStr>(
    access: &'a Access,
    prefix: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    let named = access.variables.iter();
    named.filter_map(move |(name, value): &(String, Secret)| {
        let alias = ALIASES.iter().find(|(theirs, _)| theirs == name);
        let lower = match alias {
            Some((_, ours)) => (*ours).to_owned(),
            None => name.to_ascii_lowercase(),
        };
        let key = lower.starts_with(prefix).then(|| lower.parse().ok())??;
        Some((key, value.expose()))
    })
}

fn s3(bucket: &str, access: &Access) -> Result<Clients> {
    let plain = is_plain(
        access,
        &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"],
    );
    // Every part is sent with its SHA-256, which the store compares: the client would otherwise only sign it.
    // Objects are removed one by one: whether a store keeps one has to be known of each.
    let mut builder = AmazonS3Builder::new()
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true);
    for (key, value) in named(access, "aws_") {
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(options(access, plain))
        .with_retry(retries(access))
        .build()
        .map_err(|error| unclear(&error, "AWS_REGION, AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID"))?;
    let store = Arc::new(store);
    Ok(Clients {
        objects: Arc::clone(&store) as _,
        parts: store,
    })
}

fn azure(container: &str, access: &Access) -> Result<Clients> {
    let plain = is_plain(
        access,
        &[
            "AZURE_STORAGE_ENDPOINT",
            "AZURE_ENDPOINT",
            "AZURE_STORAGE_CONNECTION_STRING",
        ],
    ) || access
        .variable("AZURE_STORAGE_CONNECTION_STRING")
        .is_some_and(|text| text.contains("=http://"));
    let mut builder = MicrosoftAzureBuilder::new();
    if let Some(text) = access.variable("AZURE_STORAGE_CONNECTION_STRING") {
        builder = from_connection_string(builder, text);
    }
    for (key, value) in named(access, "azure_") {
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_container_name(container)
        .with_client_options(options(access, plain))
        .with_retry(retries(access))
        .build()
        .map_err(|error| {
            unclear(
                &error,
                "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or AZURE_STORAGE_SAS_TOKEN",
            )
        })?;
    let store = Arc::new(store);
    Ok(Clients {
        objects: Arc::clone(&store) as _,
        parts: store,
    })
}

/// `AccountName=…;AccountKey=…;BlobEndpoint=…`, as Azure's portal gives it.
fn from_connection_string(mut builder: MicrosoftAzureBuilder, text: &str) -> MicrosoftAzureBuilder {
    use object_store::azure::AzureConfigKey as Key;
    let settings = text.split(';').filter_map(|part| part.split_once('='));
    for (name, value) in settings {
        let key = match name.trim() {
            "AccountName" => Key::AccountName,
            "AccountKey" => Key::AccessKey,
            "SharedAccessSignature" => Key::SasKey,
            "BlobEndpoint" => Key::Endpoint,
            _ => continue,
        };
        builder = builder.with_config(key, value.trim());
    }
    builder
}

fn gcs(bucket: &str, access: &Access) -> Result<Clients> {
    // The key may name another endpoint: that of an emulator.
    let files = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"];
    let files = files.iter().filter_map(|name| access.variable(name));
    let keys = files.filter_map(|path| std::fs::read_to_string(path).ok());
    let key = access.variable("GOOGLE_SERVICE_ACCOUNT_KEY");
    let plain = is_plain(access, &["GOOGLE_BASE_URL"])
        || keys
            .chain(key.map(str::to_owned))
            .any(|key| key.contains("\"http://"));
    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in named(access, "google_") {
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(options(access, plain))
        .with_retry(retries(access))
        .build()
        .map_err(|error| unclear(&error, "GOOGLE_APPLICATION_CREDENTIALS"))?;
    let store = Arc::new(store);
    Ok(Clients {
        objects: Arc::clone(&store) as _,
        parts: store,
    })
}

fn unclear(error: &object_store::Error, variables: &str) -> Error {
    // The client's words may quote what it could not read.
    Error::usage(format!(
        "the store's settings do not say enough: {}",
        super::error::redacted(&error.to_string())
    ))
    .hint(format!("set {variables}"))
}
