//! Erasing an organisation's personal data: the state in memory forgets first, two snapshots are taken behind that, and
//! then its key is destroyed, so that nothing on the disk, in the archive or in a backup of the data opens any more.
//!
//! Ordered by a file in the keys folder, so that a running node obeys without a restart and nobody can order it who
//! could not destroy the key by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use engine::{AccountAction, Action, Engine, OrganisationId, TenderStage};
use persistence::Keys;

use super::core::Shared;
use super::machine::{Machine, SYSTEM_SHARD};
use super::once::Once;
use super::sequencer::{Submission, system_command};
use super::view::Views;

/// How long the core and the view may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many tenders a refusal names.
const NAMED_MAX: usize = 5;

/// Carries out orders to destroy keys. Runs on the thread of the snapshots.
pub struct Eraser {
    /// What is asked whether an organisation's tenders have ended.
    pub views: Arc<Views>,
    /// Where the command goes by which all states forget.
    pub ring: Sender<Submission>,
    /// How far the core is, and its clock.
    pub shared: Arc<Shared>,
    /// The keys.
    pub keys: Arc<Keys>,
}

impl Eraser {
    /// Carries out what is ordered. `snapshot` takes one; `stop` closes when the node stops, and orders then wait for the
    /// next start. `told` keeps what was said of orders that can't be read.
    pub(super) fn obey(
        &self,
        stop: &Receiver<()>,
        told: &mut Once,
        mut snapshot: impl FnMut() -> Result<(), String>,
    ) {
        let orders = match self.keys.orders() {
            Ok(orders) => orders,
            Err(error) => {
                if told.is_due(&error.to_string()) {
                    tracing::error!("The orders to destroy keys can't be looked at: {error}");
                }
                return;
            }
        };
        told.clear();
        for (organisation, reason) in orders {
            let done = match reason {
                Ok(reason) => self.erase(organisation, &reason, stop, &mut snapshot),
                Err(error) => Err(error.to_string()),
            };
            if stop.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            let name = uuid::Uuid::from_u128(organisation.0);
            match &done {
                Ok(()) => {
                    tracing::info!("The key of organisation {name} is destroyed: its personal data is erased")
                }
                Err(why) => tracing::error!("The key of organisation {name} is not destroyed: {why}"),
            }
            if let Err(error) = self.keys.answer_order(organisation, done.err().as_deref()) {
                tracing::error!("The order to destroy a key can't be answered: {error}");
            }
        }
    }

    fn erase(
        &self,
        organisation: OrganisationId,
        reason: &str,
        stop: &Receiver<()>,
        snapshot: &mut impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        self.may_go(organisation)?;
        self.forget(organisation, reason, stop)?;
        // Two, because the older of those that are kept must not hold it either, nor need the log before.
        for _ in 0..2 {
            snapshot().map_err(|error| {
                format!("its persons are gone, but no snapshot could be taken, so the key stays: {error}. Order it again")
            })?;
        }
        // What was on its way when the persons went may have come meanwhile.
        self.may_go(organisation)?;
        self.keys.destroy(organisation).map_err(|error| format!("{error}. Mend it and order it again"))
    }

    /// Whether nothing that is still going on needs the key.
    fn may_go(&self, organisation: OrganisationId) -> Result<(), String> {
        let (mut bids_in, mut runs, mut is_buyer) = (Vec::new(), Vec::new(), false);
        for number in 1..=self.views.tender_shards() {
            let shard = self.views.shard(number);
            let Machine::Tenders(engine) = &shard.machine else { continue };
            is_buyer |= engine.seals_under(organisation);
            look(engine, organisation, &mut bids_in, &mut runs);
        }
        let named = |tenders: &[u128]| {
            let names = tenders.iter().take(NAMED_MAX).map(|id| uuid::Uuid::from_u128(*id).to_string());
            let more = if tenders.len() > NAMED_MAX { ", …" } else { "" };
            format!("{}{more}", names.collect::<Vec<_>>().join(", "))
        };
        if !bids_in.is_empty() {
            return Err(format!(
                "it is a bidder in {} that have not ended: {}. Wait until they are awarded, unsuccessful or cancelled, \
                 then order it again",
                count(bids_in.len()),
                named(&bids_in)
            ));
        }
        if !runs.is_empty() {
            return Err(format!(
                "it runs {} that have not ended: {}. Award or cancel them, then order it again",
                count(runs.len()),
                named(&runs)
            ));
        }
        if is_buyer {
            return Err(
                "tenders that it ran keep hidden offers of other organisations, sealed under its key in every snapshot: \
                 with the key no snapshot could be loaded. Take its persons out one by one instead (one admin stays); their data goes \
                 from memory and from new snapshots, and stays sealed in the log"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Logs that the organisation is forgotten, and waits until all states have done so.
    fn forget(&self, organisation: OrganisationId, reason: &str, stop: &Receiver<()>) -> Result<(), String> {
        let busy = || "the node is busy or stops; order it again".to_owned();
        let until = Instant::now() + PATIENCE;
        let (tell, told) = bounded(1);
        {
            let stamp = self.shared.gates.stamps.take();
            let action = Action::Account(AccountAction::Erase { organisation, reason: reason.to_owned() });
            let command = system_command(action, stamp.at(), super::salt());
            let tell = tell.clone();
            let answer = move |result: Result<engine::Reply, _>| {
                // Whoever waits may have given up.
                let _gone = tell.try_send(result.map(|_| ()).map_err(|error| format!("{error}; order it again")));
            };
            let answer: super::sequencer::AnswerFn = Box::new(answer);
            let submission = Submission::Command { shard: SYSTEM_SHARD, command, answer: Some(answer) };
            self.ring.try_send(submission).map_err(|_| busy())?;
            self.shared.core.wake();
        }
        self.wait(&told, until, stop)??;
        // What its persons sent before they went is decided before anything is looked at again.
        let settle = Submission::Settle(Box::new(move || {
            let _gone = tell.try_send(Ok(()));
        }));
        self.ring.try_send(settle).map_err(|_| busy())?;
        self.shared.core.wake();
        self.wait(&told, until, stop)??;
        let applied: Vec<u64> = self.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).collect();
        while !self.views.indexes().iter().zip(&applied).all(|(view, core)| view >= core) {
            if Instant::now() >= until || stop.try_recv() == Err(TryRecvError::Disconnected) {
                return Err(busy());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn wait<T>(&self, told: &Receiver<T>, until: Instant, stop: &Receiver<()>) -> Result<T, String> {
        loop {
            match told.recv_timeout(Duration::from_millis(20)) {
                Ok(told) => return Ok(told),
                Err(RecvTimeoutError::Timeout)
                    if Instant::now() < until && stop.try_recv() != Err(TryRecvError::Disconnected) => {}
                Err(_) => return Err("the node did not answer in time, or stops; order it again".to_owned()),
            }
        }
    }
}

fn look(engine: &Engine, organisation: OrganisationId, bids_in: &mut Vec<u128>, runs: &mut Vec<u128>) {
    let ended = [TenderStage::Awarded, TenderStage::Unsuccessful, TenderStage::Cancelled];
    for tender in engine.tenders().filter(|tender| !ended.contains(&tender.stage)) {
        if tender.bidder_of(organisation).is_some() {
            bids_in.push(tender.id.0);
        }
        if tender.buyer == organisation {
            runs.push(tender.id.0);
        }
    }
}

fn count(tenders: usize) -> String {
    if tenders == 1 { "one tender".to_owned() } else { format!("{tenders} tenders") }
}
