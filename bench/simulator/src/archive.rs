//! A store of objects in memory, in a failure domain of its own: what it took stays, whatever becomes of the node. It
//! refuses, is away for a while, and sometimes stores an object and says that it failed. Never changes an object.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use persistence::archive::{Store, StoreError};

use crate::chance::{Random, stream};

/// One call in so many fails, while the store is troubled.
const FAILS: u64 = 12;

struct Objects {
    random: Random,
    all: BTreeMap<String, Vec<u8>>,
    away: bool,
    /// Whether single calls fail.
    troubled: bool,
    injected: BTreeMap<&'static str, u64>,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct SimStore {
    objects: Arc<Mutex<Objects>>,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({} objects)", self.objects().all.len())
    }
}

impl SimStore {
    /// An empty store of the world of `seed`.
    pub fn new(seed: u64) -> Self {
        let objects = Objects {
            random: stream(seed, "archive"),
            all: BTreeMap::new(),
            away: false,
            troubled: true,
            injected: BTreeMap::new(),
        };
        Self { objects: Arc::new(Mutex::new(objects)) }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It can't be reached, or can again.
    pub fn go_away(&self, away: bool) {
        self.objects().away = away;
    }

    /// Whether it can't be reached.
    pub fn is_away(&self) -> bool {
        self.objects().away
    }

    /// No call fails any more.
    pub fn heal(&self) {
        let mut objects = self.objects();
        (objects.away, objects.troubled) = (false, false);
    }

    /// What went wrong so far, by class.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.objects().injected.clone()
    }

    fn call(&self) -> Result<MutexGuard<'_, Objects>, StoreError> {
        let mut objects = self.objects();
        if objects.away {
            return Err(objects.refuse("archive away"));
        }
        if objects.troubled && objects.random.one_in(FAILS) {
            return Err(objects.refuse("archive refused a call"));
        }
        Ok(objects)
    }
}

impl Objects {
    fn refuse(&mut self, class: &'static str) -> StoreError {
        *self.injected.entry(class).or_default() += 1;
        StoreError::Failed(class.to_owned())
    }

    /// Stored, and the answer got lost on the way back.
    fn answer_lost(&mut self) -> Result<(), StoreError> {
        if self.troubled && self.random.one_in(FAILS) {
            return Err(self.refuse("archive stored an object and said that it failed"));
        }
        Ok(())
    }
}

impl Store for SimStore {
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let mut objects = self.call()?;
        if objects.all.contains_key(name) {
            return Err(StoreError::Exists);
        }
        objects.all.insert(name.to_owned(), bytes);
        objects.answer_lost()
    }

    fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let mut objects = self.call()?;
        objects.all.insert(name.to_owned(), bytes);
        objects.answer_lost()
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.call()?.all.get(name).cloned().ok_or(StoreError::Missing)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.call()?;
        let inside = |name: &&String| {
            folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        Ok(objects.all.keys().filter(inside).cloned().collect())
    }

    fn place(&self) -> String {
        "the simulated archive".to_owned()
    }
}
