//! A store of objects for threads that wait, by `object_store`: a folder or an S3 bucket. Knows names and bytes, not what
//! they mean, and never stores a credential: those for S3 come from the environment (`AWS_…`) or the machine's role.

use std::fmt;
use std::future::Future;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use persistence::archive::{Store, StoreError};
use tokio::runtime::Runtime;

/// How long one request may take; the archive tries again by itself.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The store in a folder; the folder is made when it is not there.
pub fn folder(dir: &FilePath) -> anyhow::Result<Arc<dyn Store>> {
    let place = dir.display().to_string();
    std::fs::create_dir_all(dir).with_context(|| format!("{place}: the folder cannot be made"))?;
    let folder = LocalFileSystem::new_with_prefix(dir).with_context(|| place.clone())?;
    // What the archive has the log lets go, so it must survive a power cut.
    objects(Arc::new(folder.with_fsync(true)), place)
}

/// The store in a bucket, its names below `prefix`.
pub fn bucket(bucket: &str, prefix: &str) -> anyhow::Result<Arc<dyn Store>> {
    let place = format!("s3://{bucket}/{prefix}");
    let allow_http = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value == "true");
    let client =
        ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT).with_allow_http(allow_http);
    let retry = RetryConfig { max_retries: 2, retry_timeout: REQUEST, ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env().with_client_options(client).with_retry(retry);
    let store = store.with_bucket_name(bucket).build();
    let store = store.with_context(|| format!("{place}: look at the variables AWS_…"))?;
    let store: Arc<dyn ObjectStore> =
        if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) };
    objects(store, place)
}

fn objects(store: Arc<dyn ObjectStore>, place: String) -> anyhow::Result<Arc<dyn Store>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("archive-io")
        .enable_all()
        .build()?;
    Ok(Arc::new(Objects { store, place, runtime: Some(runtime) }))
}

/// A store for threads that wait.
struct Objects {
    store: Arc<dyn ObjectStore>,
    place: String,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Objects {
    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Missing)?;
        runtime.block_on(work).map_err(|error| match error {
            Error::NotFound { .. } => StoreError::Missing,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::Exists,
            error => StoreError::Failed(in_full(&error)),
        })
    }
}

/// An error with its causes, in one line.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = deeper.source();
    }
    text
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // May be dropped by a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for Objects {
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = Path::from(name);
        self.wait(async { self.store.put_opts(&path, bytes.into(), options).await.map(|_| ()) })
    }

    fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = Path::from(name);
        self.wait(async { self.store.put(&path, bytes.into()).await.map(|_| ()) })
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = Path::from(name);
        self.wait(async { self.store.get(&path).await?.bytes().await.map(|bytes| bytes.to_vec()) })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let prefix = (!folder.is_empty()).then(|| Path::from(folder));
        let objects = self.wait(async { self.store.list(prefix.as_ref()).try_collect::<Vec<_>>().await })?;
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_what_was_put_and_never_puts_over_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = folder(&dir.path().join("a/b")).expect("made");
        assert_eq!(store.get("log/x"), Err(StoreError::Missing));
        assert_eq!(store.list("log"), Ok(Vec::new()));
        store.put_new("log/x", b"one".to_vec()).expect("put");
        assert_eq!(store.put_new("log/x", b"two".to_vec()), Err(StoreError::Exists));
        store.replace("tip/y", b"two".to_vec()).expect("put");
        store.replace("tip/y", b"three".to_vec()).expect("put");
        assert_eq!(store.get("log/x"), Ok(b"one".to_vec()));
        assert_eq!(store.get("tip/y"), Ok(b"three".to_vec()));
        assert_eq!(store.list("log"), Ok(vec!["log/x".to_owned()]));
        assert_eq!(store.list(""), Ok(vec!["log/x".to_owned(), "tip/y".to_owned()]));
    }
}
