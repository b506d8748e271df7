//! The handle of a connection that other threads hold: a short lane of answers and a way to wake its task.
//! Never holds a frame of a lot; never blocks the thread that calls it.

use std::sync::atomic::{AtomicBool, Ordering};

use engine::{SessionId, UserId};
use tokio::sync::Notify;

/// One connection, as other threads see it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Number of the connection in this process, from 1.
    pub number: u64,
    woken: AtomicBool,
    wake: Notify,
    ended: AtomicBool,
    end: Notify,
    /// Who is signed in; set once, by `hello`.
    identity: std::sync::OnceLock<(UserId, SessionId)>,
}

impl Lane {
    pub fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Says who is signed in. Only the first call counts: a socket never changes hands.
    pub fn identify(&self, user: UserId, session: SessionId) {
        let _ = self.identity.set((user, session));
    }

    pub fn user(&self) -> Option<UserId> {
        self.identity.get().map(|identity| identity.0)
    }

    pub fn session(&self) -> Option<SessionId> {
        self.identity.get().map(|identity| identity.1)
    }

    /// Wakes the connection; many wakes before it runs are one.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Waits for the next [`Lane::wake`].
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Tells that what was there to see is about to be looked at: the next wake counts again.
    pub fn rest(&self) {
        self.woken.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Ends the connection because its session has ended, even in the middle of a write.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_one();
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits for [`Lane::end`].
    pub async fn ended(&self) {
        while !self.is_ended() {
            self.end.notified().await;
        }
    }
}
