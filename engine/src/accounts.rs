//! Accounts: organisations, their members, sessions and the keys that sign tokens, fed by the log of the system shard.
//!
//! A second pure state machine beside the engine. Passwords come in hashed; nothing here hashes, signs or checks one.

use std::collections::{BTreeMap, BTreeSet};

use wincode::{SchemaRead, SchemaWrite};

use crate::RestoreError::Broken;
use crate::snapshot::hash_parts;
use crate::{
    AccountAction, AccountAnswer, Action, Answer, Command, Entry, Envelope, Key, LogTime, MaxNext, OrganisationId,
    OrganisationKind, Recall, Refusal, Refused, Reply, RequestId, RestoreError, Role, Secret, SessionId, Sink,
    UserId,
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
pub struct AccountsPart(Part);

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
enum Part {
    /// Always first.
    #[wincode(tag = 0)]
    Head { version: u16, index: u64, now: LogTime },
    #[wincode(tag = 1)]
    Organisation(Organisation),
    #[wincode(tag = 2)]
    User(User),
    #[wincode(tag = 3)]
    Session(Session),
    #[wincode(tag = 4)]
    Announced(AnnouncedKey),
    #[wincode(tag = 5)]
    Kept(Kept),
    /// Always last.
    #[wincode(tag = 6)]
    End,
}

/// The version of the parts.
const VERSION: u16 = 1;

impl AccountsPart {
    /// The organisation under whose key this part must be sealed where it is stored; none: it holds nothing secret.
    pub fn sealed_under(&self) -> Option<OrganisationId> {
        match &self.0 {
            Part::User(user) => Some(user.organisation),
            _ => None,
        }
    }
}

/// The beginning of a token's hash, by which a used one is known again.
fn beginning(token: &[u8; 32]) -> u64 {
    u64::from_be_bytes([token[0], token[1], token[2], token[3], token[4], token[5], token[6], token[7]])
}

fn refuse(refusal: Refusal) -> Answer {
    let (lot, seq, closes_at, max_next, price_scale) = (None, 0, None, MaxNext::None, 0);
    Answer::Refused(Refused { refusal, lot, seq, closes_at, max_next, price_scale })
}

impl Accounts {
    /// No accounts, before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the next entry of the system shard; answers go to `sink`.
    ///
    /// # Panics
    /// If the entry is not the next one, or a stamp runs backwards.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl Sink) {
        assert_eq!(entry.index, self.index + 1, "the log has no gaps and no repeats");
        for (position, command) in entry.commands.iter().enumerate() {
            let envelope = &command.envelope;
            assert!(self.now <= envelope.at, "time never runs back inside the log");
            let reply = if self.passed.remove(&(entry.index, position as u32)) {
                self.keep(envelope, Answer::Internal)
            } else {
                self.now = envelope.at;
                self.expire();
                match envelope.key.and_then(|key| self.recall(key)) {
                    Some(Recall::Reply(reply)) => reply,
                    Some(Recall::Reused) => Reply {
                        answer: refuse(Refusal::IdempotencyKeyReused),
                        at: envelope.at,
                        request: envelope.request,
                        replayed: false,
                    },
                    None => {
                        let answer = self.act(command).unwrap_or_else(refuse);
                        self.keep(envelope, answer)
                    }
                }
            };
            sink.reply(position, &reply);
        }
        self.index = entry.index;
    }

    /// Makes the reply and keeps its answer under the key.
    fn keep(&mut self, envelope: &Envelope, answer: Answer) -> Reply {
        let Envelope { at, request, key, .. } = *envelope;
        if let Some(key) = key {
            self.kept.insert(key.scoped, Kept { key, at, request, answer: answer.clone() });
        }
        Reply { answer, at, request, replayed: false }
    }

    /// Ends the sessions whose time is over.
    fn expire(&mut self) {
        while let Some((_, session)) = self.expiries.first().copied().filter(|(at, _)| *at <= self.now) {
            self.end(session);
        }
    }

    fn end(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.remove(&session) {
            self.expiries.remove(&(session.expires_at, session.id));
        }
    }

    fn act(&mut self, command: &Command) -> Result<Answer, Refusal> {
        let Command { envelope, action, secret } = command;
        let action = match action {
            Action::Tick | Action::Takeover { .. } | Action::Skip { .. } => return Ok(Answer::Done),
            Action::Account(action) => action,
            _ => panic!("tenders belong to other shards"),
        };
        match action {
            AccountAction::Register { user, organisation, organisation_name, kind } => {
                let person = self.person(*user, *organisation, Role::Admin, secret.as_ref())?;
                assert!(!self.organisations.contains_key(organisation), "ids are drawn anew");
                let (id, name) = (*organisation, organisation_name.clone());
                self.organisations.insert(id, Organisation { id, name, kind: *kind });
                self.add(person);
                Ok(Answer::Account(AccountAnswer::Registered { user: *user, organisation: id }))
            }
            AccountAction::AddMember { user, role } => {
                self.admin(envelope)?;
                let person = self.person(*user, envelope.organisation, *role, secret.as_ref())?;
                self.add(person);
                Ok(Answer::Account(AccountAnswer::Member { user: *user, role: *role }))
            }
            AccountAction::RemoveMember { user } => {
                self.admin(envelope)?;
                self.remove_member(envelope.organisation, *user)
            }
            AccountAction::OpenSession { token, expires_at } => {
                let known = self.users.contains_key(&envelope.user);
                if !known || *expires_at <= self.now || self.sessions.contains_key(&envelope.session) {
                    return Err(Refusal::SessionEnded);
                }
                let (id, user, opened_at) = (envelope.session, envelope.user, self.now);
                let (token, expires_at) = (*token, *expires_at);
                self.sessions.insert(id, Session { id, user, opened_at, token, expires_at, used: Vec::new() });
                self.expiries.insert((expires_at, id));
                Ok(Answer::Account(AccountAnswer::Session { session: id, user }))
            }
            AccountAction::Refresh { token, next, expires_at } => {
                self.refresh(envelope.session, token, *next, *expires_at)
            }
            AccountAction::CloseSession => {
                if !self.sessions.contains_key(&envelope.session) {
                    return Err(Refusal::SessionEnded);
                }
                self.end(envelope.session);
                Ok(Answer::Done)
            }
            AccountAction::AnnounceKey { kid, public } => {
                if !self.announced.iter().any(|key| key.kid == *kid) {
                    let (kid, public, node, at) = (kid.clone(), *public, envelope.node, self.now);
                    self.announced.push(AnnouncedKey { kid, public, node, at });
                }
                Ok(Answer::Done)
            }
            AccountAction::Erase { organisation, .. } => {
                let persons: Vec<UserId> = self.members(*organisation).map(|user| user.id).collect();
                for person in persons {
                    self.remove(*organisation, person);
                }
                Ok(Answer::Done)
            }
        }
    }

    /// A person as the command's secret part tells it; one whose data was erased has none.
    fn person(
        &self,
        id: UserId,
        organisation: OrganisationId,
        role: Role,
        secret: Option<&Secret>,
    ) -> Result<User, Refusal> {
        let (email, name, password) = match secret {
            Some(Secret::Person { email, name, password, .. }) => (email.clone(), name.clone(), password.clone()),
            _ => Default::default(),
        };
        if self.by_email.contains_key(&email) {
            return Err(Refusal::EmailTaken);
        }
        assert!(!self.users.contains_key(&id), "ids are drawn anew");
        Ok(User { id, organisation, role, email, name, password })
    }

    fn add(&mut self, user: User) {
        if !user.email.is_empty() {
            self.by_email.insert(user.email.clone(), user.id);
        }
        self.members.insert((user.organisation, user.id));
        self.users.insert(user.id, user);
    }

    /// The sender is still an admin of the organisation it speaks for.
    fn admin(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let user = self.users.get(&envelope.user).filter(|user| user.organisation == envelope.organisation);
        user.filter(|user| user.role == Role::Admin).map(|_| ()).ok_or(Refusal::MemberNotFound)
    }

    fn remove_member(&mut self, organisation: OrganisationId, user: UserId) -> Result<Answer, Refusal> {
        let found = self.users.get(&user).filter(|found| found.organisation == organisation);
        let found = found.ok_or(Refusal::MemberNotFound)?;
        let admins = self.members(organisation).filter(|member| member.role == Role::Admin).count();
        if found.role == Role::Admin && admins == 1 {
            return Err(Refusal::LastAdmin);
        }
        self.remove(organisation, user);
        Ok(Answer::Done)
    }

    /// Takes a person out, and ends the person's sessions.
    fn remove(&mut self, organisation: OrganisationId, user: UserId) {
        if let Some(found) = self.users.remove(&user) {
            self.by_email.remove(&found.email);
        }
        self.members.remove(&(organisation, user));
        let ended: Vec<SessionId> =
            self.sessions.values().filter(|session| session.user == user).map(|session| session.id).collect();
        for session in ended {
            self.end(session);
        }
    }

    fn refresh(
        &mut self,
        id: SessionId,
        token: &[u8; 32],
        next: [u8; 32],
        expires_at: LogTime,
    ) -> Result<Answer, Refusal> {
        let session = self.sessions.get_mut(&id).ok_or(Refusal::SessionEnded)?;
        if session.token != *token {
            if session.used.contains(&beginning(token)) {
                // Somebody has a token that was exchanged already: a thief, or the one who was robbed.
                self.end(id);
            }
            return Err(Refusal::SessionEnded);
        }
        if expires_at <= self.now {
            return Err(Refusal::SessionEnded);
        }
        self.expiries.remove(&(session.expires_at, id));
        self.expiries.insert((expires_at, id));
        session.used.push(beginning(token));
        (session.token, session.expires_at) = (next, expires_at);
        Ok(Answer::Account(AccountAnswer::Session { session: id, user: session.user }))
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
        hash_parts(self.snapshot())
    }

    /// The state as plain data.
    pub fn snapshot(&self) -> impl Iterator<Item = AccountsPart> + '_ {
        let head = Part::Head { version: VERSION, index: self.index, now: self.now };
        let organisations = self.organisations.values().cloned().map(Part::Organisation);
        let users = self.users.values().cloned().map(Part::User);
        let sessions = self.sessions.values().cloned().map(Part::Session);
        let announced = self.announced.iter().cloned().map(Part::Announced);
        let kept = self.kept.values().cloned().map(Part::Kept);
        let parts = std::iter::once(head).chain(organisations).chain(users).chain(sessions);
        parts.chain(announced).chain(kept).chain(std::iter::once(Part::End)).map(AccountsPart)
    }

    /// The accounts that a snapshot was taken of.
    pub fn restore(parts: impl Iterator<Item = AccountsPart>) -> Result<Self, RestoreError> {
        let mut parts = parts.map(|part| part.0);
        let Some(Part::Head { version, index, now }) = parts.next() else { return Err(Broken("no head")) };
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        let mut accounts = Self { index, now, ..Self::default() };
        while let Some(part) = parts.next() {
            match part {
                Part::Head { .. } => return Err(Broken("a second head")),
                Part::Organisation(organisation) => {
                    accounts.organisations.insert(organisation.id, organisation);
                }
                Part::User(user) => accounts.add(user),
                Part::Session(session) => {
                    accounts.expiries.insert((session.expires_at, session.id));
                    accounts.sessions.insert(session.id, session);
                }
                Part::Announced(key) => accounts.announced.push(key),
                Part::Kept(kept) => {
                    accounts.kept.insert(kept.key.scoped, kept);
                }
                Part::End if parts.next().is_some() => return Err(Broken("something behind the end")),
                Part::End => return Ok(accounts),
            }
        }
        Err(Broken("no end"))
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
        let kept = self.kept.get(&key.scoped)?;
        if kept.key != key {
            return Some(Recall::Reused);
        }
        let Kept { at, request, ref answer, .. } = *kept;
        Some(Recall::Reply(Reply { answer: answer.clone(), at, request, replayed: true }))
    }

    /// Panics if the state contradicts itself.
    pub fn check_invariants(&self) {
        assert_eq!(self.users.len(), self.members.len());
        for user in self.users.values() {
            assert!(self.organisations.contains_key(&user.organisation), "a person works somewhere");
            assert!(self.members.contains(&(user.organisation, user.id)));
            assert!(user.email.is_empty() || self.by_email.get(&user.email) == Some(&user.id));
        }
        for organisation in self.organisations.keys() {
            let admins = self.members(*organisation).filter(|member| member.role == Role::Admin).count();
            let is_erased = self.members(*organisation).next().is_none();
            assert!(admins > 0 || is_erased, "an organisation with persons keeps at least one admin");
        }
        assert_eq!(self.sessions.len(), self.expiries.len());
        for session in self.sessions.values() {
            assert!(self.users.contains_key(&session.user), "a session is somebody's");
            assert!(session.expires_at > self.now && self.expiries.contains(&(session.expires_at, session.id)));
        }
    }
}
