//! The routes of accounts: sign-up, sign-in, members, organisations, public keys.
//! Hashes passwords before they become a command; answers are derived from replies, so that a repeat gives the same.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{
    AccountAction, AccountAnswer, Action, Answer, Command, OrganisationId, OrganisationKind, Reply, Role, Secret,
    SessionId, User, UserId,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::call::Call;
use super::lists::Page;
use super::passwords::TooMany;
use super::problem::{Code, Problem};
use super::routes::Op;
use super::schema::{KindWord, MemberBody, RefreshBody, RegisterBody, RoleWord, TokenBody};
use super::serve::Peer;
use super::tokens::{ACCESS_S, REFRESH_MS};
use crate::limits::{Subject, Told};
use crate::text;

/// Fewest and most characters of a password.
const PASSWORD: std::ops::RangeInclusive<usize> = 6..=1024;
/// Longest e-mail address and name, in characters.
const EMAIL_MAX: usize = 254;
const NAME_MAX: usize = 200;
/// What a refresh token begins with, so that one in a log or repository is recognised.
const REFRESH_PREFIX: &str = "rt_";

type Answered = Result<Response<Body>, Problem>;

/// Answers a request about accounts.
///
/// # Errors
/// The problem to answer with.
pub async fn answer(call: Call<'_>) -> Answered {
    call.check_query()?;
    match call.route.op {
        Op::Register => register(call).await,
        Op::Token => token(call).await,
        Op::Refresh => refresh(call).await,
        Op::Logout => logout(call).await,
        Op::Me => me(call).await,
        Op::Jwks => jwks(call).await,
        Op::Members => members(call).await,
        Op::AddMember => add_member(call).await,
        Op::RemoveMember => remove_member(call).await,
        Op::Organisations => organisations(call).await,
        other => unreachable!("{other:?} is no route of accounts"),
    }
}

async fn register(mut call: Call<'_>) -> Answered {
    let body: RegisterBody = call.read()?;
    let email = check_email(&body.email, "/email")?;
    check_length(&body.name, "/name")?;
    check_length(&body.organisation.name, "/organisation/name")?;
    check_password(&body.password)?;
    let key = call.secret_key(OrganisationId(0), &email, &body);
    let seed = seed(&call, &email);
    let user = UserId(fresh_id(&call, &seed, b"user"));
    let organisation = OrganisationId(fresh_id(&call, &seed, b"organisation"));
    let kind = body.organisation.kind.0;
    let secret = person(&mut call, organisation, &email, &body.name, body.password.clone()).await?;
    let action =
        AccountAction::Register { user, organisation, organisation_name: body.organisation.name.clone(), kind };
    let reply = submit(&mut call, action, key, Some(secret), None).await?;
    let (user, organisation) = call.expect(&reply, |answer| match answer {
        Answer::Account(AccountAnswer::Registered { user, organisation }) => Some((*user, *organisation)),
        _ => None,
    })?;
    let answer = json!({
        "user": { "id": text::id(user.0), "email": email, "name": body.name },
        "organisation": { "id": text::id(organisation.0), "name": body.organisation.name, "kind": kind.word() },
    });
    Ok(call.decided(&answer, reply.replayed))
}

async fn token(mut call: Call<'_>) -> Answered {
    let body: TokenBody = call.read()?;
    call.stamp = None;
    let email = body.email.trim().to_lowercase();
    let address = call.app.limited_address(call.parts.extensions.get::<Peer>().copied(), &call.parts.headers);
    let told = &mut Told::default();
    call.app.limits.take(Subject::account(address, &email), told).map_err(Problem::over)?;
    let found = find_user(&call, &email).await?;
    let stored = found.as_ref().map(|user| user.password.clone());
    let right = call.app.passwords.matches(body.password.clone(), stored).await.map_err(too_many)?;
    let Some(user) = found.filter(|_| right) else {
        metrics::counter!("rt_sign_ins_refused_total").increment(1);
        return Err(Code::CredentialsInvalid.problem("There is no account with this address and password."));
    };
    let key = call.secret_key(user.organisation, &email, &body);
    let seed = seed(&call, &email);
    let session = SessionId(fresh_id(&call, &seed, b"session"));
    let refresh = refresh_token(session, &call.app.derive("first refresh token", &[&seed]));
    let expires_at = call.app.node.now().plus_ms(REFRESH_MS);
    let action = AccountAction::OpenSession { token: hash_of(&refresh), expires_at };
    let reply = submit(&mut call, action, key, None, Some((user.organisation, user.id, session))).await?;
    let (session, _) = session_of(&call, &reply)?;
    Ok(tokens(&call, &user, session, &refresh, &reply))
}

async fn refresh(mut call: Call<'_>) -> Answered {
    let body: RefreshBody = call.read()?;
    call.stamp = None;
    let invalid = || Code::TokenInvalid.problem("This is no refresh token that is good now; sign in again.");
    let session = session_in(&body.refresh_token).ok_or_else(invalid)?;
    // A sign-in that the view does not know may have been answered a moment ago.
    let user = {
        let view = call.view().await?;
        view.accounts(|accounts| accounts.user(accounts.session(session)?.user).cloned())
    };
    let user = user.ok_or_else(invalid)?;
    let key = call.secret_key(user.organisation, &text::id(session.0), &body);
    let seed = seed(&call, &text::id(session.0));
    let next =
        refresh_token(session, &call.app.derive("next refresh token", &[&seed, body.refresh_token.as_bytes()]));
    let action = AccountAction::Refresh {
        token: hash_of(&body.refresh_token),
        next: hash_of(&next),
        expires_at: call.app.node.now().plus_ms(REFRESH_MS),
    };
    let reply = submit(&mut call, action, key, None, Some((user.organisation, user.id, session))).await;
    // A token that was used before ends the sign-in: nobody may see it alive after this answer.
    call.view().await?;
    let reply = reply?;
    let (session, _) = session_of(&call, &reply)?;
    Ok(tokens(&call, &user, session, &next, &reply))
}

async fn logout(mut call: Call<'_>) -> Answered {
    let action = Action::Account(AccountAction::CloseSession);
    let key = call.route_key(&action);
    let reply = call.submit(action, key).await?;
    // From this answer on the token must not be taken anywhere.
    call.view().await?;
    Ok(call.done(reply.replayed))
}

async fn me(call: Call<'_>) -> Answered {
    let caller = call.member();
    let view = call.view().await?;
    let answer = view.accounts(|accounts| {
        let user = accounts.user(caller.user)?;
        let organisation = accounts.organisation(caller.organisation)?;
        Some(json!({
            "user": { "id": text::id(user.id.0), "email": user.email, "name": user.name },
            "organisation": {
                "id": text::id(organisation.id.0), "name": organisation.name, "kind": organisation.kind.word(),
            },
            "role": user.role.word(),
            "roles": [user.role.word()],
        }))
    });
    match answer {
        Some(answer) => Ok(call.ok(&answer)),
        None => Err(Code::TokenInvalid.problem("Sign in at /v1/auth/token.")),
    }
}

async fn jwks(call: Call<'_>) -> Answered {
    let view = call.view().await?;
    let mut keys = view.accounts(|accounts| {
        accounts.keys().iter().map(|key| super::tokens::jwk(&key.kid, &key.public)).collect::<Vec<Value>>()
    });
    let own = call.app.tokens.kid();
    if keys.iter().all(|key| key["kid"] != own) {
        keys.push(super::tokens::jwk(own, &call.app.tokens.public()));
    }
    // Those before as well: what they signed still counts.
    keys.extend(call.app.node.audit_keys().iter().map(|(kid, public)| super::tokens::jwk(kid, public)));
    let mut response = call.ok(&json!({ "keys": keys }));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    Ok(response)
}

async fn members(call: Call<'_>) -> Answered {
    let page = Page::read(&call)?;
    let view = call.view().await?;
    let organisation = call.member().organisation;
    let taken = view.accounts(|accounts| {
        let behind = |user: &&User| page.after.is_none_or(|after| user.id.0 > after);
        let items = accounts
            .members(organisation)
            .filter(behind)
            .map(|user| (user.id.0, member(user, &user.name, user.role)));
        page.take(items)
    });
    Ok(Page::answer(&call, taken))
}

fn member(user: &User, name: &str, role: Role) -> Value {
    json!({ "id": text::id(user.id.0), "email": user.email, "name": name, "role": role.word() })
}

async fn add_member(mut call: Call<'_>) -> Answered {
    let body: MemberBody = call.read()?;
    let email = check_email(&body.email, "/email")?;
    check_length(&body.name, "/name")?;
    if let Some(password) = &body.password {
        check_password(password)?;
    }
    let organisation = call.member().organisation;
    let key = call.secret_key(organisation, "", &body);
    let seed = seed(&call, &text::id(organisation.0));
    let user = UserId(fresh_id(&call, &seed, b"user"));
    let initial = initial_password(&call, user);
    let password = body.password.clone().unwrap_or(initial);
    let secret = person(&mut call, organisation, &email, &body.name, password).await?;
    let action = AccountAction::AddMember { user, role: body.role.0 };
    let reply = submit(&mut call, action, key, Some(secret), None).await?;
    let (user, role) = call.expect(&reply, |answer| match answer {
        Answer::Account(AccountAnswer::Member { user, role }) => Some((*user, *role)),
        _ => None,
    })?;
    let mut answer = json!({ "id": text::id(user.0), "email": email, "name": body.name, "role": role.word() });
    if body.password.is_none() {
        answer["initial_password"] = initial_password(&call, user).into();
    }
    Ok(call.decided(&answer, reply.replayed))
}

/// What a new member signs in with first. Derived, so that a repeat tells it again and the log need not hold it.
fn initial_password(call: &Call<'_>, user: UserId) -> String {
    URL_SAFE_NO_PAD.encode(&call.app.derive("initial password", &[&user.0.to_be_bytes()])[..18])
}

async fn remove_member(mut call: Call<'_>) -> Answered {
    let Some(user) = text::parse_id(call.param("user")).map(UserId) else {
        return Err(Code::NotFound.problem("Your organisation has no such member."));
    };
    let reply = call.submit(Action::Account(AccountAction::RemoveMember { user }), None).await?;
    // From this answer on none of the member's tokens must be taken anywhere.
    call.view().await?;
    Ok(call.done(reply.replayed))
}

async fn organisations(call: Call<'_>) -> Answered {
    let page = Page::read(&call)?;
    let kind = match call.query("kind")?.as_deref() {
        None | Some("") => None,
        Some(word) => Some(
            KindWord::from_word(word)
                .ok_or_else(|| Code::Malformed.problem("kind is buyer, supplier or both.").at("?kind"))?,
        ),
    };
    let wanted = call.query("q")?.unwrap_or_default().to_lowercase();
    let view = call.view().await?;
    let fits = |is: OrganisationKind| match kind {
        None => true,
        Some(OrganisationKind::Buyer) => is.buys(),
        Some(OrganisationKind::Supplier) => is.supplies(),
        Some(OrganisationKind::Both) => is == OrganisationKind::Both,
    };
    let taken = view.accounts(|accounts| {
        let found = accounts.organisations().filter(|organisation| {
            fits(organisation.kind)
                && organisation.name.to_lowercase().contains(&wanted)
                && page.after.is_none_or(|after| organisation.id.0 > after)
        });
        page.take(found.map(|organisation| {
            let item = json!({
                "id": text::id(organisation.id.0), "name": organisation.name, "kind": organisation.kind.word(),
            });
            (organisation.id.0, item)
        }))
    });
    Ok(Page::answer(&call, taken))
}

/// Submits a command of accounts; `signed_in` is who it is about where no token says so.
async fn submit(
    call: &mut Call<'_>,
    action: AccountAction,
    key: Option<engine::Key>,
    secret: Option<Secret>,
    signed_in: Option<(OrganisationId, UserId, SessionId)>,
) -> Result<Reply, Problem> {
    let mut envelope = call.envelope(key);
    if let Some((organisation, user, session)) = signed_in {
        (envelope.organisation, envelope.user, envelope.session) = (organisation, user, session);
    }
    call.submit_command(Command { envelope, action: Action::Account(action), secret }).await
}

/// The secret part of a command about a person. Takes its time: the request's stamp is given back before.
async fn person(
    call: &mut Call<'_>,
    organisation: OrganisationId,
    email: &str,
    name: &str,
    password: String,
) -> Result<Secret, Problem> {
    call.stamp = None;
    let password = call.app.passwords.hash(password).await.map_err(too_many)?;
    Ok(Secret::Person { organisation, email: email.to_owned(), name: name.to_owned(), password })
}

fn too_many(_: TooMany) -> Problem {
    Code::Busy.problem("Too many sign-ins are waiting; nothing was done. Try again.")
}

async fn find_user(call: &Call<'_>, email: &str) -> Result<Option<User>, Problem> {
    let view = call.view().await?;
    Ok(view.accounts(|accounts| accounts.user_by_email(email).cloned()))
}

/// What the random parts of this request come from: under a key always the same, so that a repeat gives what the
/// first gave; without one, chance.
fn seed(call: &Call<'_>, scope: &str) -> [u8; 32] {
    match &call.key {
        Some(key) => {
            call.app.derive("request under a key", &[call.route.path.as_bytes(), scope.as_bytes(), key.as_bytes()])
        }
        None => {
            let mut bytes = [0; 32];
            SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
            bytes
        }
    }
}

fn fresh_id(call: &Call<'_>, seed: &[u8; 32], what: &[u8]) -> u128 {
    let hash = call.app.derive("id", &[seed, what]);
    let low = u128::from_be_bytes(hash[..16].try_into().expect("16 of 32 bytes"));
    // The time in front, as in every UUIDv7; under a key there is none that a repeat would have again.
    let bits = if call.key.is_some() { low } else { call.request.0 & !((1 << 80) - 1) | low & ((1 << 80) - 1) };
    crate::key::as_uuid_v7(bits)
}

fn refresh_token(session: SessionId, secret: &[u8; 32]) -> String {
    let mut bytes = session.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(secret);
    format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The sign-in that a refresh token names. Whether it is the right token is decided in the log.
fn session_in(token: &str) -> Option<SessionId> {
    let encoded = token.strip_prefix(REFRESH_PREFIX).filter(|encoded| encoded.len() <= 128)?;
    let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
    Some(SessionId(u128::from_be_bytes(bytes[..16].try_into().expect("16 of 48 bytes"))))
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn session_of(call: &Call<'_>, reply: &Reply) -> Result<(SessionId, UserId), Problem> {
    call.expect(reply, |answer| match answer {
        Answer::Account(AccountAnswer::Session { session, user }) => Some((*session, *user)),
        _ => None,
    })
}

fn tokens(call: &Call<'_>, user: &User, session: SessionId, refresh: &str, reply: &Reply) -> Response<Body> {
    let access = call.app.tokens.issue(user.id, user.organisation, user.role, session, reply.at, reply.request);
    let answer = json!({
        "access_token": access, "token_type": "Bearer", "expires_in": ACCESS_S, "refresh_token": refresh,
    });
    call.decided(&answer, reply.replayed)
}

fn malformed(pointer: &str, detail: String) -> Problem {
    Code::Malformed.problem(detail).at(pointer)
}

/// The address in lower case. Only its shape is checked: whether mail arrives there is another question.
fn check_email(text: &str, pointer: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let shaped = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let plain = email.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if shaped && plain && email.chars().count() <= EMAIL_MAX {
        return Ok(email);
    }
    Err(malformed(pointer, format!("An e-mail address has one @, no spaces and at most {EMAIL_MAX} characters.")))
}

fn check_length(text: &str, pointer: &str) -> Result<(), Problem> {
    if !text.trim().is_empty() && text.chars().count() <= NAME_MAX {
        return Ok(());
    }
    Err(malformed(pointer, format!("A name has 1 to {NAME_MAX} characters.")))
}

fn check_password(text: &str) -> Result<(), Problem> {
    if PASSWORD.contains(&text.chars().count()) {
        return Ok(());
    }
    Err(malformed("/password", format!("A password has {} to {} characters.", PASSWORD.start(), PASSWORD.end())))
}

impl KindWord {
    fn from_word(word: &str) -> Option<OrganisationKind> {
        [OrganisationKind::Buyer, OrganisationKind::Supplier, OrganisationKind::Both]
            .into_iter()
            .find(|kind| kind.word() == word)
    }

    /// Reads the word on the wire.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::from_word(word).map(Self)
    }
}

impl RoleWord {
    /// Reads the word on the wire.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Role::Admin, Role::Trader, Role::Auditor].into_iter().find(|role| role.word() == word).map(Self)
    }
}
