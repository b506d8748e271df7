//! Passwords: argon2id, off the async threads, few at a time. Never logs, stores or compares a password itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// Memory of one hash, in KiB: the floor of 19 MiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Most hashes that wait for their turn; with more the answer is `busy`.
const WAITING_MAX: usize = 128;

/// Too many hashes are waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The only place where passwords are hashed and checked.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// The hash of nobody's password: what is checked for an address that no account has, so that it takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// Hashes at most `parallel` at a time; each takes 19 MiB.
    pub fn new(parallel: usize) -> Self {
        let nobody = hash(b"nobody signs in with this");
        Self { turns: Arc::new(Semaphore::new(parallel.max(1))), waiting: Arc::default(), nobody: nobody.into() }
    }

    /// The hash of `password` in PHC form, with a fresh salt.
    ///
    /// # Errors
    /// [`TooMany`] when the line is full.
    pub async fn hash(&self, password: String) -> Result<String, TooMany> {
        self.in_turn(move || hash(password.as_bytes())).await
    }

    /// Whether `password` is the one that `stored` was made from. Without `stored` it takes as long and is false.
    ///
    /// # Errors
    /// [`TooMany`] when the line is full.
    pub async fn matches(&self, password: String, stored: Option<String>) -> Result<bool, TooMany> {
        let nobody = Arc::clone(&self.nobody);
        self.in_turn(move || {
            let known = stored.is_some();
            let text = stored.as_deref().unwrap_or(&nobody);
            let right = PasswordHash::new(text)
                .is_ok_and(|parsed| hasher().verify_password(password.as_bytes(), &parsed).is_ok());
            known && right
        })
        .await
    }

    async fn in_turn<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, TooMany> {
        struct Place<'a>(&'a AtomicUsize);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(TooMany);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the request: a client that goes away does not free the memory.
            let _turn = turn;
            work()
        });
        Ok(done.await.expect("hashing does not panic"))
    }
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8]) -> String {
    hasher().hash_password(password).expect("the system gives random bytes").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = Passwords::new(1);
        let stored = passwords.hash("correct horse".to_owned()).await.expect("a turn");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(passwords.matches("correct horse".to_owned(), Some(stored.clone())).await, Ok(true));
        assert_eq!(passwords.matches("correct horsf".to_owned(), Some(stored)).await, Ok(false));
        assert_eq!(passwords.matches("nobody signs in with this".to_owned(), None).await, Ok(false));
        assert_eq!(passwords.matches("x".to_owned(), Some("no hash".to_owned())).await, Ok(false));
    }
}
