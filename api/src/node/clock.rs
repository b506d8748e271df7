//! The leader's clock: monotonic, anchored at the log, drawn slowly towards the wall clock.
//!
//! A jump of the wall clock changes no stamp: it is counted and then followed by at most 500 ppm. The arithmetic
//! ([`Slew`]) takes its two clocks as numbers, so tests turn them as they like; [`LeaderClock`] reads the real ones.

use std::sync::RwLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::LogTime;

const NS_PER_MS: i64 = 1_000_000;

/// How fast the clock follows the wall clock: 500 parts in a million.
const SLEW_PPM: i64 = 500;

/// A difference between the steps of wall clock and monotonic clock above this is a jump, in nanoseconds.
const JUMP_NS: i64 = 250 * NS_PER_MS;

/// The arithmetic of the clock, on nanoseconds of a monotonic and of a wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Slew {
    /// Where the present piece of the line begins, on the monotonic clock.
    mono_ns: i64,
    /// The leader's time there.
    time_ns: i64,
    /// The slope above 1, in parts per million: -500 to 500.
    ppm: i64,
    /// What the wall clock said there.
    wall_ns: i64,
}

impl Slew {
    /// A clock that says the later of the wall clock and `last`, the last stamp in the log.
    pub fn new(mono_ns: i64, wall_ns: i64, last: LogTime) -> Self {
        Self { mono_ns, time_ns: wall_ns.max(last.0.saturating_mul(NS_PER_MS)), ppm: 0, wall_ns }
    }

    /// The leader's time in nanoseconds. Never runs backwards as long as `mono_ns` doesn't.
    pub fn time_ns(&self, mono_ns: i64) -> i64 {
        let elapsed = mono_ns - self.mono_ns;
        self.time_ns + elapsed + (i128::from(elapsed) * i128::from(self.ppm) / 1_000_000) as i64
    }

    /// Begins a term: from here on the clock says no less than `last`, the last stamp in the log, and with `wall_ns` no
    /// less than that. It goes forwards alone.
    pub fn anchor(&mut self, mono_ns: i64, wall_ns: Option<i64>, last: LogTime) {
        let least = last.0.saturating_mul(NS_PER_MS).max(wall_ns.unwrap_or(i64::MIN));
        let time_ns = self.time_ns(mono_ns).max(least);
        // What the wall clock would say had it not jumped: a jump is still told by the next adjustment.
        let wall_ns = self.wall_ns + (mono_ns - self.mono_ns);
        *self = Self { mono_ns, time_ns, ppm: self.ppm, wall_ns };
    }

    /// Begins a new piece of the line towards the wall clock. Answers by how many nanoseconds the wall clock jumped
    /// since the last piece began, if it did.
    pub fn adjust(&mut self, mono_ns: i64, wall_ns: i64) -> Option<i64> {
        let jump = (wall_ns - self.wall_ns) - (mono_ns - self.mono_ns);
        let time_ns = self.time_ns(mono_ns);
        // Aim to meet the wall clock in ten seconds; the limit binds above 5 ms of difference.
        let wanted_ppm = (wall_ns - time_ns) / 10_000;
        *self = Self { mono_ns, time_ns, ppm: wanted_ppm.clamp(-SLEW_PPM, SLEW_PPM), wall_ns };
        (jump.abs() > JUMP_NS).then_some(jump)
    }
}

/// The two clocks of a machine, in nanoseconds. A simulator gives its own.
pub trait MachineClocks: std::fmt::Debug + Send + Sync {
    /// Time since some instant. Never goes back, whatever becomes of the wall clock.
    fn mono_ns(&self) -> i64;
    /// Time since 1970, as far as the machine knows.
    fn wall_ns(&self) -> i64;
}

/// The clocks of this machine.
#[derive(Debug)]
struct RealClocks {
    origin: Instant,
}

impl MachineClocks for RealClocks {
    fn mono_ns(&self) -> i64 {
        self.origin.elapsed().as_nanos() as i64
    }

    fn wall_ns(&self) -> i64 {
        wall_ns()
    }
}

/// The clock that stamps commands.
#[derive(Debug)]
pub struct LeaderClock {
    machine: Box<dyn MachineClocks>,
    slew: RwLock<Slew>,
}

impl LeaderClock {
    /// A clock that never says less than `last`, the last stamp in the log.
    pub fn new(last: LogTime) -> Self {
        Self::of_machine(Box::new(RealClocks { origin: Instant::now() }), last)
    }

    /// The same on the clocks of `machine`.
    pub fn of_machine(machine: Box<dyn MachineClocks>, last: LogTime) -> Self {
        let last = if mutant!(ClockBehindTheLog) { LogTime(0) } else { last };
        let slew = Slew::new(machine.mono_ns(), machine.wall_ns(), last);
        Self { machine, slew: RwLock::new(slew) }
    }

    /// The leader's time, rounded down to whole milliseconds.
    pub fn now(&self) -> LogTime {
        // Read the monotonic clock under the lock: a reading from before an adjustment belongs to the old piece.
        let slew = self.slew.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        LogTime(slew.time_ns(self.mono_ns()).div_euclid(NS_PER_MS))
    }

    /// How long until the clock says `at`; zero when it does already.
    pub fn until(&self, at: LogTime) -> std::time::Duration {
        let slew = self.slew.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let wait_ns = at.0.saturating_mul(NS_PER_MS).saturating_sub(slew.time_ns(self.mono_ns()));
        std::time::Duration::from_nanos(wait_ns.max(0) as u64)
    }

    /// Draws the clock towards the wall clock; to be called about once a second. Answers a jump of the wall clock in
    /// milliseconds, if there was one.
    pub fn adjust(&self) -> Option<i64> {
        let mut slew = self.slew.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mono_ns = self.mono_ns();
        slew.adjust(mono_ns, self.machine.wall_ns()).map(|jump_ns| jump_ns / NS_PER_MS)
    }

    /// This node begins to lead a shard whose last stamp is `last`: the clock says no less from now on. With `wall`,
    /// when it stamps nothing else, it goes up to the wall clock as well.
    pub fn anchor(&self, last: LogTime, wall: bool) {
        let mut slew = self.slew.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mono_ns = self.mono_ns();
        slew.anchor(mono_ns, wall.then(|| self.machine.wall_ns()), last);
    }

    fn mono_ns(&self) -> i64 {
        self.machine.mono_ns()
    }
}

/// What the wall clock says, in milliseconds since 1970. Stamps nothing.
pub fn wall_ms() -> i64 {
    wall_ns() / NS_PER_MS
}

fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000 * NS_PER_MS;

    #[test]
    fn starts_at_the_later_of_wall_clock_and_log() {
        assert_eq!(Slew::new(0, 5 * SECOND, LogTime(3_000)).time_ns(0), 5 * SECOND);
        assert_eq!(Slew::new(0, 5 * SECOND, LogTime(9_000)).time_ns(0), 9 * SECOND);
    }

    #[test]
    fn a_term_begins_at_the_later_of_clock_wall_clock_and_log() {
        let mut clock = Slew::new(0, 5 * SECOND, LogTime(0));
        clock.anchor(SECOND, Some(4 * SECOND), LogTime(3_000));
        assert_eq!(clock.time_ns(SECOND), 6 * SECOND, "it never goes back");
        clock.anchor(2 * SECOND, None, LogTime(9_000));
        assert_eq!(clock.time_ns(2 * SECOND), 9 * SECOND);
        clock.anchor(3 * SECOND, Some(20 * SECOND), LogTime(9_000));
        assert_eq!(clock.time_ns(3 * SECOND), 20 * SECOND);
        assert_eq!(clock.adjust(4 * SECOND, 21 * SECOND), Some(12 * SECOND), "the jump is told all the same");
    }

    #[test]
    fn a_jump_is_reported_once_and_followed_slowly() {
        let mut clock = Slew::new(0, 0, LogTime(0));
        let mut last = clock.time_ns(0);
        let mut jumps = 0;
        for second in 1..=100 {
            let wall = second * SECOND + if second >= 10 { 3_600 * SECOND } else { 0 };
            jumps += i32::from(clock.adjust(second * SECOND, wall).is_some());
            let now = clock.time_ns(second * SECOND);
            assert!((now - last - SECOND).abs() <= SECOND * SLEW_PPM / 1_000_000, "no stamp jumps");
            last = now;
        }
        assert_eq!(jumps, 1);
        assert!(last > 100 * SECOND + 89 * SECOND * SLEW_PPM / 1_000_000, "the wall clock is followed");
    }

    #[test]
    fn never_runs_backwards_while_the_wall_clock_does() {
        let mut clock = Slew::new(0, 100 * SECOND, LogTime(0));
        let mut last = 0;
        for tenth in 0..1_000 {
            let mono = tenth * SECOND / 10;
            if tenth % 10 == 0 {
                clock.adjust(mono, 100 * SECOND - mono);
            }
            let now = clock.time_ns(mono);
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn meets_a_wall_clock_that_is_a_little_ahead_without_overshooting() {
        let mut clock = Slew::new(0, 0, LogTime(0));
        let ahead = 40 * NS_PER_MS;
        for second in 1..=600 {
            clock.adjust(second * SECOND, second * SECOND + ahead);
            assert!(clock.time_ns(second * SECOND) <= second * SECOND + ahead);
        }
        assert!(600 * SECOND + ahead - clock.time_ns(600 * SECOND) < NS_PER_MS);
    }
}
