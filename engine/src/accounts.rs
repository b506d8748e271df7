//! Accounts: organisations, their members, sessions and the keys that sign tokens, fed by the log of the system shard.
//!
//! A second pure state machine beside the engine. Passwords come in hashed; nothing here hashes, signs or checks one.

use std::collections::{BTreeMap, BTreeSet};

use wincode::{SchemaRead, SchemaWrite};

use crate::{
    Answer, Entry, Key, LogTime, OrganisationId, OrganisationKind, Recall, RequestId, RestoreError, Role,
    SessionId, Sink, UserId,
};

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Where it works.
    pub organisation: OrganisationId,
    /// What it may do there.
    pub role: Role,
    /// E-mail address, lower case. Secret.
    pub email: String,
    /// Name. Secret.
    pub name: String,
    /// Argon2id hash of the password, in PHC form. Secret.
    pub password: String,
}

/// A buyer, a supplier, or both.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Organisation {
    /// Its id.
    pub id: OrganisationId,
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: OrganisationKind,
}

/// One sign-in: a family of refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// When the person signed in.
    pub opened_at: LogTime,
    /// SHA-256 of the refresh token that is good now.
    pub token: [u8; 32],
    /// When that token ends.
    pub expires_at: LogTime,
    /// Beginnings of the hashes of the tokens that were used.
    pub(crate) used: Vec<u64>,
}

/// A public key that some node signs tokens with.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct AnnouncedKey {
    /// The key's id in token headers.
    pub kid: String,
    /// The Ed25519 public key.
    pub public: [u8; 32],
    /// The node that announced it.
    pub node: u16,
    /// When.
    pub at: LogTime,
}

/// What was answered under a key.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct Kept {
    key: Key,
    at: LogTime,
    request: RequestId,
    answer: Answer,
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    index: u64,
    now: LogTime,
    organisations: BTreeMap<OrganisationId, Organisation>,
    users: BTreeMap<UserId, User>,
    by_email: BTreeMap<String, UserId>,
    members: BTreeSet<(OrganisationId, UserId)>,
    sessions: BTreeMap<SessionId, Session>,
    expiries: BTreeSet<(LogTime, SessionId)>,
    announced: Vec<AnnouncedKey>,
    kept: BTreeMap<u128, Kept>,
    passed: BTreeSet<(u64, u32)>,
}

/// A small piece of the accounts as plain data: at most 1 MiB encoded.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
#[allow(private_interfaces)]
pub struct AccountsPart(u8);

impl AccountsPart {
    /// The organisation under whose key this part must be sealed where it is stored; none: it holds nothing secret.
    pub fn sealed_under(&self) -> Option<OrganisationId> {
        todo!()
    }
}

impl Accounts {
    /// No accounts, before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the next entry of the system shard; answers go to `sink`.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl Sink) {
        let _ = (entry, sink);
        todo!()
    }

    /// The last applied entry; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The stamp of the last applied command.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// Told before replay: the command at `position` of entry `index` panicked once and is to have no effect.
    pub fn pass_by(&mut self, index: u64, position: u32) {
        self.passed.insert((index, position));
    }

    /// SHA-256 over the encoded snapshot.
    pub fn state_hash(&self) -> [u8; 32] {
        todo!()
    }

    /// The state as plain data.
    pub fn snapshot(&self) -> impl Iterator<Item = AccountsPart> + '_ {
        std::iter::empty()
    }

    /// The accounts that a snapshot was taken of.
    pub fn restore(parts: impl Iterator<Item = AccountsPart>) -> Result<Self, RestoreError> {
        let _ = parts;
        todo!()
    }

    /// The person with this e-mail address, lower case.
    pub fn user_by_email(&self, email: &str) -> Option<&User> {
        self.users.get(self.by_email.get(email)?)
    }

    /// The person with this id.
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id)
    }

    /// The organisation with this id.
    pub fn organisation(&self, id: OrganisationId) -> Option<&Organisation> {
        self.organisations.get(&id)
    }

    /// All organisations, by id.
    pub fn organisations(&self) -> impl DoubleEndedIterator<Item = &Organisation> {
        self.organisations.values()
    }

    /// The persons of an organisation, by id.
    pub fn members(&self, organisation: OrganisationId) -> impl DoubleEndedIterator<Item = &User> {
        let range = (organisation, UserId(0))..=(organisation, UserId(u128::MAX));
        self.members.range(range).map(|(_, user)| &self.users[user])
    }

    /// The session with this id, if it runs: not closed, not expired by the log's time.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// All public keys that were announced, in that order.
    pub fn keys(&self) -> &[AnnouncedKey] {
        &self.announced
    }

    /// What was answered under a key.
    pub fn recall(&self, key: Key) -> Option<Recall> {
        let _ = key;
        todo!()
    }

    /// Panics if the state contradicts itself.
    pub fn check_invariants(&self) {
        todo!()
    }
}
