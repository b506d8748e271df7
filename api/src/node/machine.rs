//! The state of one shard: tenders, or (in shard 0) accounts. One `apply` for both.

use engine::{Accounts, Command, Engine, Entry, LogTime, Sink};

/// The shard of the accounts.
pub const SYSTEM_SHARD: u16 = 0;

/// The state machine of one shard.
#[derive(Clone)]
pub enum Machine {
    /// Shard 0.
    Accounts(Accounts),
    /// Every other shard.
    Tenders(Engine),
}

impl Machine {
    /// The empty state of `shard`.
    pub fn new(shard: u16) -> Self {
        if shard == SYSTEM_SHARD { Self::Accounts(Accounts::new()) } else { Self::Tenders(Engine::new()) }
    }

    /// Applies the next entry.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl Sink) {
        match self {
            Self::Accounts(accounts) => accounts.apply(entry, sink),
            Self::Tenders(engine) => engine.apply(entry, sink),
        }
    }

    /// Moves what must stay secret out of the readable part of a command, which is salted already.
    pub fn conceal(&self, command: &mut Command) {
        let Self::Tenders(engine) = self else { return };
        engine.conceal(command);
    }

    /// Grows tables between entries, so that applying one doesn't have to.
    pub fn maintain(&mut self) {
        match self {
            Self::Accounts(_) => {}
            Self::Tenders(engine) => engine.maintain(),
        }
    }

    /// Tells before replay that a command panicked once and is to be passed by.
    pub fn pass_by(&mut self, index: u64, position: u32) {
        match self {
            Self::Accounts(accounts) => accounts.pass_by(index, position),
            Self::Tenders(engine) => engine.pass_by(index, position),
        }
    }

    /// The last entry applied; 0 before the first.
    pub fn index(&self) -> u64 {
        match self {
            Self::Accounts(accounts) => accounts.index(),
            Self::Tenders(engine) => engine.index(),
        }
    }

    /// The stamp of the last command applied.
    pub fn now(&self) -> LogTime {
        match self {
            Self::Accounts(accounts) => accounts.now(),
            Self::Tenders(engine) => engine.now(),
        }
    }

    /// The next instant at which something happens by itself.
    pub fn next_deadline(&self) -> Option<LogTime> {
        match self {
            Self::Accounts(_) => None,
            Self::Tenders(engine) => engine.next_deadline(),
        }
    }

    /// SHA-256 over the state.
    pub fn state_hash(&self) -> [u8; 32] {
        match self {
            Self::Accounts(accounts) => accounts.state_hash(),
            Self::Tenders(engine) => engine.state_hash(),
        }
    }
}
