//! Where threads run. Only asks: a start never fails because of it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the calling thread on the last processor it may use, if there are several. The core and the log thread share
/// it: with few bids under way they only wait for each other, and waking somebody on an idle processor takes longer
/// than a switch.
pub fn share_a_processor() {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)) else { return };
    if allowed.count() < 2 {
        return;
    }
    let mut one = CpuSet::new();
    one.set(last);
    if let Err(error) = sched_setaffinity(None, &one) {
        tracing::debug!("The thread stays where it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_up_on_one_processor_that_it_may_use() {
        std::thread::spawn(|| {
            let allowed = sched_getaffinity(None).expect("it can be asked");
            share_a_processor();
            let now = sched_getaffinity(None).expect("it can be asked");
            assert_eq!(now.count(), 1);
            assert!((0..CpuSet::MAX_CPU).all(|cpu| !now.is_set(cpu) || allowed.is_set(cpu)));
        })
        .join()
        .expect("it is asked");
    }
}
