//! The handle of a connection that other threads hold: a short lane of answers and a way to wake its task.
//! Never holds a frame of a lot; never blocks the thread that calls it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{LogTime, Reply, SessionId, UserId};
use serde_json::Value;
use tokio::sync::Notify;

use super::message::Failure;
use crate::node::SubmitError;

/// What waits in the lane of a connection, oldest first.
#[derive(Debug)]
pub(super) enum Control {
    /// A bid was decided, or was certainly not taken, or nobody knows.
    Bid { re: u64, cid: String, rx: LogTime, outcome: Result<Reply, SubmitError> },
    /// A `bid.query` was looked up.
    Query { re: u64, rx: LogTime, told: Result<Value, Failure> },
}

/// One connection, as other threads see it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Number of the connection in this process, from 1.
    pub number: u64,
    /// At most as long as the number of requests that may be unanswered.
    controls: Mutex<Vec<Control>>,
    woken: AtomicBool,
    wake: Notify,
    ended: AtomicBool,
    end: Notify,
    /// Who is signed in, and by which sign-in.
    identity: Mutex<Option<(UserId, SessionId)>>,
}

impl Lane {
    pub fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Says who is signed in, and by which sign-in.
    pub fn identify(&self, user: UserId, session: SessionId) {
        *self.identity.lock().expect("nothing panics holding it") = Some((user, session));
    }

    pub fn user(&self) -> Option<UserId> {
        self.identity.lock().expect("nothing panics holding it").map(|identity| identity.0)
    }

    pub fn session(&self) -> Option<SessionId> {
        self.identity.lock().expect("nothing panics holding it").map(|identity| identity.1)
    }

    /// Puts `control` into the lane and wakes the connection. Called on the core thread.
    pub fn push(&self, control: Control) {
        self.controls.lock().expect("nothing panics holding the lane").push(control);
        self.wake();
    }

    /// Takes all that waits.
    pub fn drain(&self) -> Vec<Control> {
        std::mem::take(&mut *self.controls.lock().expect("nothing panics holding the lane"))
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
