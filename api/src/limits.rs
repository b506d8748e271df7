//! Rate limits: who may send how much, decided at the edge before anything is sequenced. Owns the numbers, the subjects
//! they count for and the table. Never decides about a bid: what is refused here was not taken, and nothing of it stays.

pub mod gcra;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use engine::{LotId, OrganisationId, TenderId, UserId};

use self::gcra::{Bucket, Rate, Table, Verdict};

/// How many subjects are remembered at most: some 6 MiB.
const SUBJECTS_MAX: usize = 1 << 16;
/// Messages of one socket: 20 a second, 40 at once.
pub const MESSAGES: Rate = Rate::per_second(20, 40);
/// After so many refusals within [`REFUSALS_WITHIN`] a socket is closed.
pub const REFUSALS_MAX: u32 = 100;
/// See [`REFUSALS_MAX`].
pub const REFUSALS_WITHIN: Duration = Duration::from_secs(60);

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Requests of one address; of IPv6 a network of 64 bits.
    Address(u128),
    /// Handshakes of the feed from one address.
    Handshakes(u128),
    /// Sign-ups, sign-ins and refreshes from one address: each may cost a password hash.
    SignIns(u128),
    /// Sign-ins with one e-mail address (a hash of it) from one address. With the address, so that nobody is shut out
    /// by others who try its password.
    Account(u128, u64),
    /// Requests of one person.
    User(UserId),
    /// Requests of one organisation.
    Organisation(OrganisationId),
    /// Commands of one organisation in one tender. Not of all together: then one bidder could shut out its rivals.
    Tender(OrganisationId, TenderId),
    /// Bids, accepts and limits of one bidder in one lot, through whatever door.
    Bids(OrganisationId, LotId),
}

impl Subject {
    /// The name of its limit in headers and metrics, and the limit.
    pub const fn policy(&self) -> (&'static str, Rate) {
        match self {
            Self::Address(_) => ("address", Rate::per_second(500, 2_000)),
            Self::Handshakes(_) => ("handshakes", Rate { burst: 30, every_ns: 10_000_000_000 / 30 }),
            Self::SignIns(_) => ("sign-ins", Rate::per_second(20, 200)),
            Self::Account(..) => ("account", Rate { burst: 30, every_ns: 2_000_000_000 }),
            Self::User(_) => ("user", Rate::per_second(100, 400)),
            Self::Organisation(_) => ("organisation", Rate::per_second(400, 1_600)),
            Self::Tender(..) => ("tender", Rate::per_second(100, 400)),
            Self::Bids(..) => ("bids", Rate::per_second(5, 10)),
        }
    }

    /// The sign-ins with an e-mail address.
    pub fn account(address: u128, email: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        email.trim().to_lowercase().hash(&mut hasher);
        Self::Account(address, hasher.finish())
    }
}

/// What stands for an address: itself, or of IPv6 the network of 64 bits, which one client may have for itself.
pub fn address(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(four) => u128::from(four.to_bits()),
        IpAddr::V6(six) => six.to_bits() & !u128::from(u64::MAX),
    }
}

/// A request was over a limit; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The name of the limit.
    pub name: &'static str,
    /// After what time one would be let through.
    pub after: Duration,
}

impl Over {
    /// In whole seconds, at least one, as `Retry-After` says it.
    pub fn after_s(&self) -> u32 {
        u32::try_from(self.after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
    }

    /// In milliseconds, at least one, as the feed says it.
    pub fn after_ms(&self) -> u64 {
        (self.after.as_nanos().div_ceil(1_000_000) as u64).max(1)
    }
}

/// The limits of this node.
#[derive(Debug)]
pub struct RateLimits {
    began: Instant,
    /// `None`: `--limits off`.
    table: Option<Table<Subject>>,
}

impl RateLimits {
    /// Those of the contract.
    pub fn new() -> Self {
        Self { began: Instant::now(), table: Some(Table::new(SUBJECTS_MAX)) }
    }

    /// None at all, for tests and measurements on a loopback address.
    pub fn off() -> Self {
        Self { began: Instant::now(), table: None }
    }

    /// Whether there are any.
    pub fn is_on(&self) -> bool {
        self.table.is_some()
    }

    /// Counts one request of `subject`, and tells `told` how it stands.
    ///
    /// # Errors
    /// [`Over`] when it is over the limit; then it was not counted.
    pub fn take(&self, subject: Subject, told: &mut Told) -> Result<(), Over> {
        let Some(table) = &self.table else { return Ok(()) };
        let (name, rate) = subject.policy();
        let now_ns = self.now_ns();
        let verdict = table.with(subject, now_ns, |bucket| bucket.take(rate, now_ns));
        told.0.push((name, rate, verdict));
        over(name, verdict)
    }

    /// As [`RateLimits::take`], for a bucket that a connection keeps itself.
    ///
    /// # Errors
    /// As [`RateLimits::take`].
    pub fn take_from(&self, bucket: &mut Bucket, name: &'static str, rate: Rate) -> Result<(), Over> {
        if self.table.is_none() {
            return Ok(());
        }
        over(name, bucket.take(rate, self.now_ns()))
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::new()
    }
}

fn over(name: &'static str, verdict: Verdict) -> Result<(), Over> {
    if verdict.is_allowed() {
        return Ok(());
    }
    metrics::counter!("rt_rate_limited_total", "limit" => name).increment(1);
    Err(Over { name, after: Duration::from_nanos(verdict.wait_ns) })
}

/// How the limits stand that a request was held against, for the headers of its answer.
#[derive(Debug, Default)]
pub struct Told(Vec<(&'static str, Rate, Verdict)>);

impl Told {
    /// Adds `RateLimit-Policy` (what holds: `q` requests in `w` seconds) and `RateLimit` (`r` are left; the whole quota is
    /// there again after `t` seconds of silence), a member for each limit.
    pub fn write(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let seconds = |ns: u64| ns.div_ceil(1_000_000_000);
        let policy = self
            .0
            .iter()
            .map(|(name, rate, _)| format!("\"{name}\";q={};w={}", rate.burst, seconds(rate.room_ns())));
        let standing = self.0.iter().map(|(name, _, verdict)| {
            format!("\"{name}\";r={};t={}", verdict.remaining, seconds(verdict.whole_ns))
        });
        for (name, members) in
            [("ratelimit-policy", policy.collect::<Vec<_>>()), ("ratelimit", standing.collect())]
        {
            let value = HeaderValue::from_str(&members.join(", ")).expect("names and numbers");
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| address(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn headers_say_what_holds_and_what_is_left() {
        let limits = RateLimits::new();
        let mut told = Told::default();
        let bids = Subject::Bids(OrganisationId(1), LotId(2));
        for _ in 0..10 {
            told = Told::default();
            limits.take(Subject::User(UserId(1)), &mut told).expect("few");
            limits.take(bids, &mut told).expect("ten");
        }
        let mut headers = HeaderMap::new();
        told.write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=400;w=4, \"bids\";q=10;w=2");
        assert_eq!(headers["ratelimit"], "\"user\";r=390;t=1, \"bids\";r=0;t=2");
        let over = limits.take(bids, &mut told).expect_err("the eleventh");
        assert_eq!((over.name, over.after_s()), ("bids", 1));
        assert!((1..=200).contains(&over.after_ms()), "{over:?}");
        limits.take(Subject::Bids(OrganisationId(1), LotId(3)), &mut told).expect("another lot");
        limits.take(Subject::Bids(OrganisationId(3), LotId(2)), &mut told).expect("another bidder");
        let (off, mut told) = (RateLimits::off(), Told::default());
        assert!((0..1000).all(|_| off.take(bids, &mut told).is_ok()));
        told.write(&mut headers);
        assert_eq!(headers["ratelimit"], "\"user\";r=390;t=1, \"bids\";r=0;t=2", "nothing is said without limits");
    }
}
