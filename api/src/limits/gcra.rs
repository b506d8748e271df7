//! The arithmetic of a rate (GCRA) and a table of rates with bounded memory. Reads no clock: every call says when it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

/// A rate: `burst` at once, then one every `every_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many may come at once, at least 1.
    pub burst: u32,
    /// Nanoseconds after which one more may come, at least 1.
    pub every_ns: u64,
}

impl Rate {
    /// `per_s` a second, `burst` at once. Both at least 1.
    pub const fn per_second(per_s: u32, burst: u32) -> Self {
        Self { burst, every_ns: 1_000_000_000 / per_s as u64 }
    }

    /// How far ahead of the clock a full burst is, in nanoseconds.
    pub const fn room_ns(self) -> u64 {
        self.burst as u64 * self.every_ns
    }

    /// This rate and burst divided among `nodes`; never less than one.
    #[must_use]
    pub const fn share(self, nodes: u32) -> Self {
        let burst = self.burst / nodes;
        Self { burst: if burst == 0 { 1 } else { burst }, every_ns: self.every_ns * nodes as u64 }
    }
}

/// What a rate says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// After how many nanoseconds it would be let through; 0: it is now, and was counted.
    pub wait_ns: u64,
    /// How many more may come at once.
    pub remaining: u32,
    /// After how many nanoseconds of silence the whole burst is there again.
    pub whole_ns: u64,
}

impl Verdict {
    /// Whether the request was let through.
    pub fn is_allowed(self) -> bool {
        self.wait_ns == 0
    }
}

/// How far ahead of the clock the requests of one subject are: the state of one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When all that was let through would have come at the even rate, in nanoseconds.
    due_ns: u64,
}

impl Bucket {
    /// Lets one request through, or says when.
    pub fn take(&mut self, rate: Rate, now_ns: u64) -> Verdict {
        let verdict = self.look(rate, now_ns);
        if !verdict.is_allowed() {
            return verdict;
        }
        self.due_ns = self.due_ns.max(now_ns) + rate.every_ns;
        Verdict { wait_ns: 0, ..self.standing(rate, now_ns) }
    }

    /// What [`Bucket::take`] would say, without counting anything.
    pub fn look(&self, rate: Rate, now_ns: u64) -> Verdict {
        let next = self.due_ns.max(now_ns) + rate.every_ns;
        let wait_ns = next.saturating_sub(now_ns + rate.room_ns());
        Verdict { wait_ns, ..self.standing(rate, now_ns) }
    }

    fn standing(&self, rate: Rate, now_ns: u64) -> Verdict {
        let whole_ns = self.due_ns.saturating_sub(now_ns);
        let remaining = rate.room_ns().saturating_sub(whole_ns) / rate.every_ns;
        Verdict { wait_ns: 0, remaining: u32::try_from(remaining).unwrap_or(u32::MAX), whole_ns }
    }

    /// Whether it says the same as one that was never used.
    pub fn is_idle(&self, now_ns: u64) -> bool {
        self.due_ns <= now_ns
    }

    /// When it is idle if nothing more comes, in nanoseconds.
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }
}

/// How many parts a table has, so that threads rarely wait for each other.
const PARTS: usize = 16;

/// Buckets by subject, never more than a given number. One that is idle is forgotten without loss; when all are in use,
/// those nearest to being idle go first.
#[derive(Debug)]
pub struct Table<K> {
    hasher: RandomState,
    parts: [Mutex<HashMap<K, Bucket>>; PARTS],
    part_max: usize,
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// A table of at most `most` buckets, rounded up to a multiple of 16.
    pub fn new(most: usize) -> Self {
        let part_max = most.div_ceil(PARTS).max(1);
        Self { hasher: RandomState::new(), parts: Default::default(), part_max }
    }

    /// Lets `change` at the bucket of `subject`.
    pub fn with<R>(&self, subject: K, now_ns: u64, change: impl FnOnce(&mut Bucket) -> R) -> R {
        let part = &self.parts[self.hasher.hash_one(subject) as usize % PARTS];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if part.len() >= self.part_max && !part.contains_key(&subject) {
            make_room(&mut part, now_ns);
        }
        change(part.entry(subject).or_default())
    }

    /// How many buckets there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes out what is idle; and at least an eighth, so that looking through all is rare.
fn make_room<K: Copy + Eq + Hash>(part: &mut HashMap<K, Bucket>, now_ns: u64) {
    let before = part.len();
    part.retain(|_, bucket| !bucket.is_idle(now_ns));
    let wanted = (before / 8).max(1);
    if before - part.len() >= wanted {
        return;
    }
    let mut dues: Vec<u64> = part.values().map(Bucket::due_ns).collect();
    let (_, limit, _) = dues.select_nth_unstable(wanted - 1);
    let limit = *limit;
    let mut left = wanted;
    part.retain(|_, bucket| {
        let goes = left > 0 && bucket.due_ns <= limit;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::per_second(5, 10);
        let mut bucket = Bucket::default();
        for remaining in (0..10).rev() {
            let verdict = bucket.take(rate, 7 * S);
            assert_eq!((verdict.wait_ns, verdict.remaining), (0, remaining));
        }
        let refused = bucket.take(rate, 7 * S);
        assert_eq!((refused.wait_ns, refused.remaining, refused.whole_ns), (S / 5, 0, 2 * S));
        assert!(!bucket.take(rate, 7 * S + S / 5 - 1).is_allowed());
        assert!(bucket.take(rate, 7 * S + S / 5).is_allowed(), "it waits as long as it was told");
        assert!(!bucket.is_idle(9 * S) && bucket.is_idle(9 * S + S / 5));
    }

    #[test]
    fn a_share_is_never_nothing() {
        assert_eq!(Rate::per_second(20, 40).share(2), Rate::per_second(10, 20));
        assert_eq!(Rate::per_second(1, 1).share(3), Rate { burst: 1, every_ns: 3 * S });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Never more than burst + rate · t in any stretch of time t, and never less than asked for where that is less.
        #[test]
        fn no_stretch_of_time_has_more(
            per_s in 1u32..50, burst in 1u32..60, gaps in prop::collection::vec(0u64..400_000_000, 1..300),
        ) {
            let rate = Rate::per_second(per_s, burst);
            let (mut bucket, mut now) = (Bucket::default(), 0);
            let mut taken: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                let verdict = bucket.take(rate, now);
                if verdict.is_allowed() {
                    taken.push(now);
                } else {
                    let mut later = bucket;
                    prop_assert!(later.take(rate, now + verdict.wait_ns).is_allowed());
                    let mut early = bucket;
                    prop_assert!(!early.take(rate, now + verdict.wait_ns - 1).is_allowed());
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let most = u64::from(burst) + (to - from) / rate.every_ns;
                    prop_assert!((j - i + 1) as u64 <= most, "{} in {} ns", j - i + 1, to - from);
                }
            }
        }
    }

    #[test]
    fn a_table_stays_within_its_bounds_and_keeps_who_is_over() {
        let rate = Rate::per_second(1, 10);
        let table = Table::new(1024);
        let hot = |now| table.with(u64::MAX, now, |bucket| bucket.take(rate, now));
        for _ in 0..10 {
            assert!(hot(S).is_allowed());
        }
        for stranger in 0..100_000 {
            let now = S + stranger;
            assert!(table.with(stranger, now, |bucket| bucket.take(rate, now)).is_allowed());
            assert!(table.len() <= 1024);
        }
        assert!(!hot(S + 100_000).is_allowed(), "who has used the most is forgotten last");
        // A minute later all of them are idle: one newcomer in each part clears it.
        for stranger in 200_000..200_400 {
            table.with(stranger, 60 * S, |bucket| bucket.take(rate, 60 * S));
        }
        assert!(table.len() <= 1024);
        assert!(hot(60 * S).is_allowed());
    }
}
