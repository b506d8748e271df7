//! Stamps: when a command was read, and which stamped commands have not reached the core yet.
//!
//! A deadline T, and commands stamped at or after T, may be written only after every command that was stamped before
//! T. So whoever stamps first takes a slot, and gives it back when the command is in the ring (or dropped). The core
//! looks at the slots before it writes a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::LogTime;

use super::clock::LeaderClock;

/// Commands that may be between stamp and ring at once. They are there for microseconds; more would wait.
const SLOTS: usize = 1_024;

const FREE: i64 = i64::MAX;
/// Taken, but the clock has not been read yet: earlier than every deadline.
const STAMPING: i64 = i64::MIN;

/// How long a deadline waits for a command that was stamped before it. Nothing that holds a stamp waits for anything,
/// so this only ends a wait for a thread that died with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The slots of all commands between stamp and ring.
#[derive(Debug)]
pub struct Stamps {
    clock: Arc<LeaderClock>,
    slots: Box<[AtomicI64]>,
    next: AtomicUsize,
}

/// A stamped command that has not reached the core. Dropping it gives the slot back.
#[derive(Debug)]
pub struct Stamp {
    at: LogTime,
    slot: usize,
    stamps: Arc<Stamps>,
}

impl Stamp {
    /// When the command was read.
    pub fn at(&self) -> LogTime {
        self.at
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.stamps.slots[self.slot].store(FREE, Ordering::SeqCst);
    }
}

impl Stamps {
    /// No command is under way.
    pub fn new(clock: Arc<LeaderClock>) -> Arc<Self> {
        let slots = (0..SLOTS).map(|_| AtomicI64::new(FREE)).collect();
        Arc::new(Self { clock, slots, next: AtomicUsize::new(0) })
    }

    /// Stamps a command whose last byte has just been read.
    pub fn take(self: &Arc<Self>) -> Stamp {
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            for offset in 0..SLOTS {
                let slot = first.wrapping_add(offset) % SLOTS;
                // The slot is taken before the clock is read: a core that saw it free read its own clock earlier.
                let taken = self.slots[slot].compare_exchange(FREE, STAMPING, Ordering::SeqCst, Ordering::Relaxed);
                if taken.is_ok() {
                    let at = self.clock.now();
                    let held = if mutant!(StampNotHeld) { FREE } else { at.0 };
                    self.slots[slot].store(held, Ordering::SeqCst);
                    return Stamp { at, slot, stamps: Arc::clone(self) };
                }
            }
            std::thread::yield_now();
        }
    }

    /// Whether every command stamped before `time` has reached the ring. The caller must have seen the clock say at
    /// least `time` before.
    pub fn settled_before(&self, time: LogTime) -> bool {
        self.slots.iter().all(|slot| slot.load(Ordering::SeqCst) >= time.0)
    }

    /// Waits until every command stamped before `time` has reached the ring. False if one never does.
    pub fn wait_before(&self, time: LogTime) -> bool {
        let mut rounds = 0u32;
        let mut since = None;
        while !self.settled_before(time) {
            rounds += 1;
            if rounds < 100 {
                std::hint::spin_loop();
                continue;
            }
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_waits_for_what_was_stamped_before_it() {
        let stamps = Stamps::new(Arc::new(LeaderClock::new(LogTime(4_000_000_000_000))));
        let stamp = stamps.take();
        let later = stamp.at().plus_ms(1);
        assert!(stamps.settled_before(stamp.at()), "a deadline at the stamp itself comes first");
        assert!(!stamps.settled_before(later));
        let waiter = std::thread::spawn({
            let stamps = Arc::clone(&stamps);
            move || stamps.wait_before(later)
        });
        drop(stamp);
        assert!(waiter.join().expect("the waiter ends"));
        assert!(stamps.settled_before(later));
    }

    #[test]
    fn no_stamp_is_earlier_than_a_clock_reading_that_saw_no_slot() {
        let clock = Arc::new(LeaderClock::new(LogTime(0)));
        let stamps = Stamps::new(Arc::clone(&clock));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let stamps = Arc::clone(&stamps);
                std::thread::spawn(move || (0..2_000).map(|_| stamps.take().at()).max())
            })
            .collect();
        let mut settled = LogTime(0);
        for _ in 0..2_000 {
            let now = clock.now();
            assert!(now >= settled);
            if stamps.settled_before(now) {
                settled = now;
                // Whoever stamps from here on reads a clock that has said `settled` already.
                assert!(stamps.take().at() >= settled);
            }
        }
        for taker in takers {
            assert!(taker.join().expect("the taker ends").is_some());
        }
    }
}
