//! What the archive asks of a store of objects. A folder, a bucket, or a simulated one that refuses.

/// A store of named objects. Names are relative, with `/` between their parts. Every call may take long, and returns:
/// an implementation gives up by itself after some seconds.
pub trait Store: std::fmt::Debug + Send + Sync {
    /// Stores a new object as one step: it is there whole and durable, or not at all.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one of this name, whose bytes then stay.
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError>;
    /// Stores an object as one step, in the place of one that has its name.
    ///
    /// # Errors
    /// The store refused.
    fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError>;
    /// The bytes of an object.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none.
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError>;
    /// The names that begin with `folder` and a `/`, sorted; all names for an empty `folder`.
    ///
    /// # Errors
    /// The store refused.
    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;
    /// The store in words, for messages.
    fn place(&self) -> String;
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no object of this name.
    #[error("there is no such object")]
    Missing,
    /// There is an object of this name.
    #[error("there is an object of this name")]
    Exists,
    /// It can't be reached, is full, or refuses; may be otherwise later.
    #[error("{0}")]
    Failed(String),
}
