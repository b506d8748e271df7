//! The scrub of a running node: a thread that looks at everything once a period, slowly, and says what it finds at once.
//! Nothing waits for it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use tracing::{error, info, warn};

use crate::archive::Reach;
use crate::log_reader::LogReader;
use crate::scrub::{Damage, ScrubStatus, Scrubber, Step};

/// How long after the start the first pass begins, if the period is not shorter.
const FIRST_AFTER: Duration = Duration::from_secs(600);
/// How long a file waits that could not be read.
const PAUSE: Duration = Duration::from_secs(10);

/// The thread's work.
pub struct Scrub {
    /// What is read.
    pub reader: LogReader,
    /// How far the log is durable, and where it stands which segments are damaged.
    pub reach: Arc<Reach>,
    /// From one pass's beginning to the next one's.
    pub period: Duration,
    /// How much is read in a second at most.
    pub bytes_per_s: u64,
    /// What others read.
    pub status: Arc<ScrubStatus>,
    /// Is told of damage that was not known, and sees to it that the next start does not need the file.
    pub on_damage: Box<dyn Fn(&Damage) + Send>,
    /// Milliseconds since 1970.
    pub clock: fn() -> i64,
}

impl Scrub {
    /// Scrubs until `stop` closes.
    pub fn run(self, stop: &Receiver<()>) {
        let (asked, rate) = (stop.clone(), self.bytes_per_s.max(1));
        let mut scrubber =
            Scrubber::new(&self.reader, Arc::clone(&self.reach), Arc::clone(&self.status), move |bytes| {
                let pause = Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate);
                match asked.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => Ok(()),
                    _ => Err(io::ErrorKind::Interrupted.into()),
                }
            });
        let stopped = |pause| stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        let mut begin_at = Instant::now() + self.period.min(FIRST_AFTER);
        loop {
            while let left = begin_at.saturating_duration_since(Instant::now())
                && !left.is_zero()
            {
                if stopped(left.min(PAUSE)) {
                    return;
                }
                scrubber.look_for_gone();
            }
            begin_at = Instant::now() + self.period;
            let before = self.status.counts();
            loop {
                let step = scrubber.step();
                if stop.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
                let wait = matches!(step, Step::Refused { .. });
                if step == Step::Finished {
                    break;
                }
                self.tell(step);
                if wait && stopped(PAUSE.min(self.period)) {
                    return;
                }
            }
            self.status.finished((self.clock)());
            let counts = self.status.counts();
            let (bytes, found) = (counts.bytes - before.bytes, counts.corruptions - before.corruptions);
            info!("Scrub finished: {bytes} bytes read again, {found} files damaged");
        }
    }

    fn tell(&self, step: Step) {
        match step {
            Step::Damaged(damage) => {
                let what = match damage.sequence {
                    Some(_) => {
                        "The node goes on from memory, which is sound. It takes two snapshots, so that the next start does \
                         not need this segment, and then puts it aside as ….seg.bad, if there is an archive once that \
                         has it. Look for the device in the system's log"
                    }
                    None => {
                        "The node goes on from memory, which is sound, and takes two snapshots. Look for the device \
                             in the system's log"
                    }
                };
                error!(scrub.file = %damage.file.display(), "Damage found: {}. {what}", damage.text);
                if !damage.known {
                    (self.on_damage)(&damage);
                }
            }
            Step::Misread(file, text) => warn!(
                scrub.file = %file.display(),
                "Read wrong once, and right then: {} is sound, the device or the way to it is not. At first: {text}",
                file.display()
            ),
            Step::Refused { text, last: true } => error!("Not scrubbed, passed by until the next pass: {text}"),
            Step::Refused { text, last: false } => warn!("Not scrubbed, tried again: {text}"),
            Step::Sound(_) | Step::Gone(_) | Step::Finished => {}
        }
    }
}
