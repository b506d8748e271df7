//! Accounts as the system shard's log makes them: people, sessions and keys, and what a snapshot brings back.

use engine::*;

struct Book {
    accounts: Accounts,
    twin: Accounts,
    at: i64,
    request: u128,
}

struct Last(Option<Reply>);

impl Sink for Last {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.0 = Some(reply.clone());
    }
}

impl Book {
    fn new() -> Self {
        Self { accounts: Accounts::new(), twin: Accounts::new(), at: 0, request: 0 }
    }

    /// Applies one action to the accounts and to their copy out of a snapshot, which must agree.
    fn send(&mut self, envelope: Envelope, action: AccountAction, email: Option<&str>) -> Reply {
        self.request += 1;
        let envelope = Envelope { at: LogTime(self.at), request: RequestId(self.request), ..envelope };
        let secret = email.map(|email| Secret::Person {
            organisation: envelope.organisation,
            email: email.into(),
            name: "N".into(),
            password: "$argon2id$".into(),
        });
        let commands = vec![Command { envelope, action: Action::Account(action), secret }];
        let entry = Entry { index: self.accounts.index() + 1, commands };
        let (mut last, mut again) = (Last(None), Last(None));
        self.accounts.apply(&entry, &mut last);
        self.accounts.check_invariants();
        self.twin = Accounts::restore(self.twin.snapshot()).expect("a snapshot restores");
        self.twin.apply(&entry, &mut again);
        assert_eq!(last.0, again.0);
        assert_eq!(self.accounts.state_hash(), self.twin.state_hash());
        last.0.expect("every command is answered")
    }

    fn register(&mut self, user: u128, organisation: u128, email: &str) -> Reply {
        let action = AccountAction::Register {
            user: UserId(user),
            organisation: OrganisationId(organisation),
            organisation_name: "Org".into(),
            kind: OrganisationKind::Both,
        };
        self.send(Envelope::default(), action, Some(email))
    }
}

/// The persons of one organisation are forgotten, whoever they are; those of others, and its name, stay.
#[test]
fn an_erased_organisation_keeps_its_name_and_nobody() {
    let mut book = Book::new();
    book.register(1, 10, "a@example.org");
    book.register(2, 20, "b@example.org");
    let add = AccountAction::AddMember { user: UserId(3), role: Role::Trader };
    book.send(by(1, 10), add, Some("c@example.org"));
    for (user, session) in [(1, 7), (3, 8), (2, 9)] {
        book.send(signed(user, session), open(session as u8, 1_000), None);
    }
    let erase = || AccountAction::Erase { organisation: OrganisationId(10), reason: "asked to".into() };
    assert_eq!(book.send(Envelope::default(), erase(), None).answer, Answer::Done);
    let accounts = &book.accounts;
    assert!(accounts.members(OrganisationId(10)).next().is_none() && accounts.user(UserId(3)).is_none());
    assert!(
        accounts.user_by_email("a@example.org").is_none() && accounts.user_by_email("c@example.org").is_none()
    );
    assert!(accounts.session(SessionId(7)).is_none() && accounts.session(SessionId(8)).is_none());
    assert_eq!(accounts.organisation(OrganisationId(10)).map(|org| org.name.as_str()), Some("Org"));
    assert!(accounts.session(SessionId(9)).is_some() && accounts.user_by_email("b@example.org").is_some());
    let text: String = accounts.snapshot().map(|part| format!("{part:?}")).collect();
    assert!(!text.contains("a@example.org") && !text.contains("c@example.org") && text.contains("b@example.org"));

    // Again is nothing, and so is one that nobody knows; nobody is left to act for it, and its addresses are free.
    assert_eq!(book.send(Envelope::default(), erase(), None).answer, Answer::Done);
    let unknown = AccountAction::Erase { organisation: OrganisationId(99), reason: String::new() };
    assert_eq!(book.send(Envelope::default(), unknown, None).answer, Answer::Done);
    let add = AccountAction::AddMember { user: UserId(4), role: Role::Trader };
    assert_eq!(refusal(&book.send(by(1, 10), add, Some("d@example.org"))), Some(Refusal::MemberNotFound));
    assert_eq!(refusal(&book.register(5, 50, "a@example.org")), None);
}

fn refusal(reply: &Reply) -> Option<Refusal> {
    match &reply.answer {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    }
}

fn by(user: u128, organisation: u128) -> Envelope {
    Envelope { user: UserId(user), organisation: OrganisationId(organisation), ..Envelope::default() }
}

fn signed(user: u128, session: u128) -> Envelope {
    Envelope { user: UserId(user), session: SessionId(session), ..Envelope::default() }
}

fn open(token: u8, expires_at: i64) -> AccountAction {
    AccountAction::OpenSession { token: [token; 32], expires_at: LogTime(expires_at) }
}

fn refresh(token: u8, next: u8, expires_at: i64) -> AccountAction {
    AccountAction::Refresh { token: [token; 32], next: [next; 32], expires_at: LogTime(expires_at) }
}

#[test]
fn people_are_found_by_address_and_organisation() {
    let mut book = Book::new();
    assert_eq!(refusal(&book.register(1, 10, "a@x")), None);
    assert_eq!(refusal(&book.register(2, 20, "a@x")), Some(Refusal::EmailTaken));
    let add = AccountAction::AddMember { user: UserId(3), role: Role::Trader };
    assert_eq!(refusal(&book.send(by(3, 10), add.clone(), Some("b@x"))), Some(Refusal::MemberNotFound));
    assert_eq!(refusal(&book.send(by(1, 10), add, Some("b@x"))), None);
    let add = AccountAction::AddMember { user: UserId(4), role: Role::Trader };
    assert_eq!(refusal(&book.send(by(3, 10), add, Some("c@x"))), Some(Refusal::MemberNotFound), "no admin");
    assert_eq!(book.accounts.user_by_email("b@x").map(|user| user.id), Some(UserId(3)));
    assert_eq!(book.accounts.members(OrganisationId(10)).count(), 2);
    assert_eq!(book.accounts.organisations().count(), 1);
    let remove = |user| AccountAction::RemoveMember { user: UserId(user) };
    assert_eq!(refusal(&book.send(by(1, 10), remove(1), None)), Some(Refusal::LastAdmin));
    assert_eq!(refusal(&book.send(by(1, 10), remove(9), None)), Some(Refusal::MemberNotFound));
    assert_eq!(refusal(&book.send(by(1, 10), remove(3), None)), None);
    assert_eq!(book.accounts.user_by_email("b@x"), None);
    assert_eq!(refusal(&book.register(5, 50, "b@x")), None, "the address is free again");
}

#[test]
fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let mut book = Book::new();
    book.register(1, 10, "a@x");
    assert_eq!(refusal(&book.send(signed(1, 7), open(1, 1_000), None)), None);
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(9, 9, 2_000), None)), Some(Refusal::SessionEnded));
    assert!(book.accounts.session(SessionId(7)).is_some(), "a token that was never given out ends nothing");
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(1, 2, 2_000), None)), None);
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(2, 3, 3_000), None)), None);
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(1, 4, 3_000), None)), Some(Refusal::SessionEnded));
    assert!(book.accounts.session(SessionId(7)).is_none(), "the family has ended");
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(3, 4, 3_000), None)), Some(Refusal::SessionEnded));
}

#[test]
fn sessions_end_by_the_logs_time_by_closing_and_with_their_person() {
    let mut book = Book::new();
    book.register(1, 10, "a@x");
    let add = AccountAction::AddMember { user: UserId(2), role: Role::Auditor };
    book.send(by(1, 10), add, Some("b@x"));
    book.send(signed(1, 7), open(1, 1_000), None);
    book.send(signed(1, 8), open(2, 5_000), None);
    book.send(signed(2, 9), open(3, 5_000), None);
    assert_eq!(refusal(&book.send(signed(3, 11), open(3, 5_000), None)), Some(Refusal::SessionEnded));
    book.at = 1_000;
    assert_eq!(refusal(&book.send(signed(1, 7), refresh(1, 5, 9_000), None)), Some(Refusal::SessionEnded));
    assert_eq!(refusal(&book.send(signed(1, 8), AccountAction::CloseSession, None)), None);
    assert_eq!(refusal(&book.send(signed(1, 8), AccountAction::CloseSession, None)), Some(Refusal::SessionEnded));
    book.send(by(1, 10), AccountAction::RemoveMember { user: UserId(2) }, None);
    for session in [7, 8, 9] {
        assert!(book.accounts.session(SessionId(session)).is_none(), "{session}");
    }
}

#[test]
fn keys_are_announced_once_and_answers_are_kept() {
    let mut book = Book::new();
    let announce = AccountAction::AnnounceKey { kid: "k1".into(), public: [5; 32] };
    book.send(Envelope { node: 3, ..Envelope::default() }, announce.clone(), None);
    book.send(Envelope::default(), announce, None);
    assert_eq!(book.accounts.keys().iter().map(|key| key.node).collect::<Vec<_>>(), [3]);

    let key = Some(Key { scoped: 77, body: 1 });
    let action = |user| AccountAction::Register {
        user: UserId(user),
        organisation: OrganisationId(10),
        organisation_name: "Org".into(),
        kind: OrganisationKind::Buyer,
    };
    let first = book.send(Envelope { key, ..Envelope::default() }, action(1), Some("a@x"));
    let again = book.send(Envelope { key, ..Envelope::default() }, action(2), Some("a@x"));
    assert_eq!((&again.answer, again.replayed), (&first.answer, true));
    let other = Some(Key { scoped: 77, body: 2 });
    let reused = book.send(Envelope { key: other, ..Envelope::default() }, action(2), Some("a@x"));
    assert_eq!(refusal(&reused), Some(Refusal::IdempotencyKeyReused));
    assert_eq!(book.accounts.recall(Key { scoped: 1, body: 1 }), None);
}

#[test]
fn personal_data_is_told_apart_for_sealing() {
    let mut book = Book::new();
    book.register(1, 10, "a@x");
    book.send(signed(1, 7), open(1, 1_000), None);
    let sealed: Vec<_> = book.accounts.snapshot().filter_map(|part| part.sealed_under()).collect();
    assert_eq!(sealed, [OrganisationId(10)]);
    let text = |part: &AccountsPart| format!("{part:?}");
    let open: Vec<_> = book.accounts.snapshot().filter(|part| part.sealed_under().is_none()).collect();
    assert!(open.iter().all(|part| !text(part).contains("a@x") && !text(part).contains("argon2id")));
}

#[test]
fn a_command_that_panicked_is_passed_by() {
    let mut book = Book::new();
    book.accounts.pass_by(1, 0);
    let key = Some(Key { scoped: 7, body: 1 });
    let action = AccountAction::AnnounceKey { kid: "k".into(), public: [0; 32] };
    let commands = vec![Command {
        envelope: Envelope { key, ..Envelope::default() },
        action: Action::Account(action),
        secret: None,
    }];
    let mut last = Last(None);
    book.accounts.apply(&Entry { index: 1, commands }, &mut last);
    assert_eq!(last.0.map(|reply| reply.answer), Some(Answer::Internal));
    assert!(book.accounts.keys().is_empty());
    assert!(book.accounts.recall(Key { scoped: 7, body: 1 }).is_some(), "its sender is told so again");
}
