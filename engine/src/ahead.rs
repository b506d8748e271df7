//! Looks up what the bids of a batch will need before any of them is applied.
//!
//! At many open lots a bid waits for memory, not for arithmetic: tender, lot, book, history and key each lie somewhere
//! else. Read one after another by each bid these waits add up; read for the whole batch first they overlap. What is
//! found here changes nothing and decides nothing: `apply` looks again wherever a batch may have changed it.

use std::hint::black_box;

use crate::{Action, Command, Engine, Envelope, Lot, Tender};

/// Where the lot of a bid lies, and its bidder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// Dense index of the tender; [`NOT_FOUND`] when it has to be looked up.
    pub tender: u32,
    /// Dense index of the bidder; [`NOT_A_BIDDER`] when it has to be looked up.
    pub bidder: u16,
}

pub(crate) const NOT_FOUND: u32 = u32::MAX;
pub(crate) const NOT_A_BIDDER: u16 = u16::MAX;

impl Ahead {
    /// Nothing was found.
    pub const NONE: Self = Self { tender: NOT_FOUND, bidder: NOT_A_BIDDER };
}

/// Looks up every bid of a batch; `found` gets one entry a command.
pub(crate) fn look(engine: &Engine, commands: &[Command], found: &mut Vec<Ahead>) {
    found.clear();
    if commands.len() < 2 {
        found.resize(commands.len(), Ahead::NONE);
        return;
    }
    // Each loop asks for what the one before it has found, for all commands, so that the waits of one loop overlap.
    let mut seen = 0;
    found.extend(commands.iter().map(|command| {
        let Action::Bid { lot, .. } = &command.action else { return Ahead::NONE };
        // A command is several lines long itself.
        let Envelope { at, request, node, salt, .. } = &command.envelope;
        seen ^= at.0 as u64 ^ request.0 as u64 ^ u64::from(*node) ^ u64::from(salt[0]);
        let tender = engine.find(lot.tender()).map_or(NOT_FOUND, |place| place as u32);
        Ahead { tender, bidder: NOT_A_BIDDER }
    }));
    for (command, ahead) in commands.iter().zip(found.iter()) {
        let Some((_, lot)) = resolve(engine, command, ahead) else { continue };
        seen ^= lot.glance() ^ command.envelope.key.map_or(0, |key| engine.keys.glance(key.scoped));
    }
    for (command, ahead) in commands.iter().zip(found.iter()) {
        let Some((_, lot)) = resolve(engine, command, ahead) else { continue };
        seen ^= lot.rules.glance() ^ lot.book.glance() ^ lot.history.glance();
    }
    // Last: a search branches on what it reads, and a branch that was guessed wrong ends the overlap.
    for (command, ahead) in commands.iter().zip(found.iter_mut()) {
        let Some((tender, _)) = resolve(engine, command, ahead) else { continue };
        ahead.bidder = tender.bidder_index(command.envelope.organisation).unwrap_or(NOT_A_BIDDER);
    }
    black_box(seen);
}

fn resolve<'a>(engine: &'a Engine, command: &Command, ahead: &Ahead) -> Option<(&'a Tender, &'a Lot)> {
    let Action::Bid { lot, .. } = &command.action else { return None };
    let tender = engine.tenders.get(ahead.tender as usize)?;
    Some((tender, tender.lot(lot.number())?))
}
