//! The archive as an operator meets it: where it lies, and the commands `backup` and `restore`. What an archive is and
//! how it is checked is `persistence::archive`'s affair.

#[cfg(feature = "archive")]
mod objects;
mod run;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use persistence::archive::Store;

pub use run::{backup, restore, target};

/// Where an archive lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder; made when it is not there.
    Folder(PathBuf),
    /// A bucket, and a prefix of the names in it, without a `/` at its end.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix; may be empty.
        prefix: String,
    },
}

impl Location {
    /// What is valid, in words.
    pub const VALID: &str = "a folder outside the data directory, or s3://BUCKET/PREFIX";

    /// Reads `s3://BUCKET/PREFIX`, or the path of a folder.
    pub fn parse(text: &str) -> Option<Self> {
        let Some(rest) = text.strip_prefix("s3://") else {
            let is_path = !text.is_empty() && !text.contains("://");
            return is_path.then(|| Self::Folder(PathBuf::from(text)));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = Some(bucket).filter(|bucket| !bucket.is_empty())?.to_owned();
        Some(Self::S3 { bucket, prefix: prefix.trim_matches('/').to_owned() })
    }

    /// Opens the store there.
    ///
    /// # Errors
    /// A folder can't be made, or the environment has a wrong `AWS_…` variable.
    #[cfg(feature = "archive")]
    pub fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        match self {
            Self::Folder(dir) => objects::folder(dir),
            Self::S3 { bucket, prefix } => objects::bucket(bucket, prefix),
        }
    }

    /// Opens the store there.
    ///
    /// # Errors
    /// Always: this program can't.
    #[cfg(not(feature = "archive"))]
    pub fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        anyhow::bail!("{self}: this program was built without the feature `archive`")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "{}", dir.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_folders_and_buckets() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Location::parse("/mnt/archive"), Some(Location::Folder("/mnt/archive".into())));
        assert_eq!(Location::parse("s3://b"), Some(s3("b", "")));
        assert_eq!(Location::parse("s3://b/a/c/"), Some(s3("b", "a/c")));
        for odd in ["", "s3://", "s3:///x", "ftp://x"] {
            assert_eq!(Location::parse(odd), None, "{odd}");
        }
    }
}
