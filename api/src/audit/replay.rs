//! Runs the commands of an export through the engine, and compares what it decides with what the export says.
//! Never looks at hashes: what is run has been checked.

use engine::{Action, Command, Engine, Entry, Envelope, LogTime, TenderId};
use serde_json::Value;

use super::document::Claims;
use super::export::lot_line;
use super::verify::Wrong;

/// What the engine made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It decides the same.
    Same {
        /// How many lots.
        lots: usize,
        /// How many decisions about bids.
        decisions: usize,
    },
    /// It can't be run, and why.
    Not(String),
}

/// A command of the export, known in full.
pub struct Known {
    /// Its leaf's place in the shard's tree.
    pub leaf: u64,
    /// Its number in the chain.
    pub number: u64,
    /// The command.
    pub command: Command,
}

/// An engine with nothing but this tender in it; every command is an entry of its own.
#[derive(Default)]
struct Run {
    engine: Engine,
}

impl Run {
    fn apply(&mut self, command: Command) {
        self.engine.apply(&Entry { index: self.engine.index() + 1, commands: vec![command] }, &mut ());
        self.engine.maintain();
    }

    fn system(&mut self, at: LogTime, action: Action) {
        if at >= self.engine.now() {
            let envelope = Envelope { at, ..Envelope::default() };
            self.apply(Command { envelope, action, secret: None });
        }
    }
}

/// Whether the numbers of the bidders were drawn by a command that the export may lack.
fn draws_elsewhere(commands: &[Known]) -> bool {
    let is_anonymous = |known: &Known| match &known.command.action {
        Action::CreateTender { spec, .. } | Action::UpdateTender { spec, .. } => spec.anonymous_to_buyer,
        _ => false,
    };
    let is_started = |known: &Known| matches!(known.command.action, Action::Start { .. });
    commands.iter().any(is_anonymous) && !commands.iter().any(is_started)
}

/// Runs `commands` and compares lots and decisions with the claims. `progress` is told of each command.
///
/// # Errors
/// The first difference.
pub fn replay(claims: &Claims, commands: Vec<Known>, mut progress: impl FnMut()) -> Result<Replayed, Wrong> {
    if draws_elsewhere(&commands) {
        let why = "the tender is anonymous and was opened by the clock, so its numbers were drawn with the salt of a \
                   command of another tender";
        return Ok(Replayed::Not(why.into()));
    }
    let mut run = Run::default();
    let mut interruptions = claims.interruptions.iter().peekable();
    for known in commands {
        while let Some(line) = interruptions.next_if(|line| line.leaf_index < known.leaf) {
            // What was due was done while somebody still served.
            run.system(line.served_until.0, Action::Tick);
            run.system(line.at.0, Action::Takeover { planned: false });
        }
        if claims.passed_by.contains(&known.number) {
            run.engine.pass_by(run.engine.index() + 1, 0);
        }
        run.apply(known.command);
        progress();
    }
    for line in interruptions {
        run.system(line.served_until.0, Action::Tick);
        run.system(line.at.0, Action::Takeover { planned: false });
    }
    run.system(claims.at.0, Action::Tick);
    let Some(tender) = run.engine.tender(TenderId(claims.tender.0)) else {
        return Err(Wrong::new(
            "claims.tender",
            "the engine makes it of the commands",
            "the commands make no such tender",
        ));
    };
    if tender.lots().len() != claims.lots.len() {
        return Err(Wrong::new("claims.lots", tender.lots().len(), claims.lots.len()));
    }
    let mut count = 0;
    for (number, (lot, told)) in tender.lots().iter().zip(&claims.lots).enumerate() {
        let place = format!("claims.lots[{number}]");
        let decided = lot_line(tender, lot);
        if decided.lot != told.lot {
            return Err(Wrong::new(
                format!("{place}.lot"),
                crate::text::id(decided.lot.0),
                crate::text::id(told.lot.0),
            ));
        }
        for (at, (ours, theirs)) in decided.decisions.iter().zip(&told.decisions).enumerate() {
            compare(&format!("{place}.decisions[{at}]"), ours, theirs)?;
        }
        if decided.decisions.len() != told.decisions.len() {
            let (ours, theirs) = (decided.decisions.len(), told.decisions.len());
            return Err(Wrong::new(
                format!("{place}.decisions"),
                format!("{ours} of them"),
                format!("{theirs} of them"),
            ));
        }
        compare(&format!("{place}.result"), &decided.result, &told.result)?;
        count += decided.decisions.len();
    }
    Ok(Replayed::Same { lots: tender.lots().len(), decisions: count })
}

/// Names the field in which what the engine decides differs from what is told.
fn compare(place: &str, decided: &Value, told: &Value) -> Result<(), Wrong> {
    if let (Value::Object(ours), Value::Object(theirs)) = (decided, told) {
        for (name, value) in ours {
            compare(&format!("{place}.{name}"), value, theirs.get(name).unwrap_or(&Value::Null))?;
        }
        if let Some(extra) = theirs.keys().find(|name| !ours.contains_key(*name)) {
            return Err(Wrong::new(format!("{place}.{extra}"), "nothing", &theirs[extra]));
        }
        return Ok(());
    }
    if decided == told {
        Ok(())
    } else {
        Err(Wrong::new(place, format!("{decided}, as the engine decides"), told))
    }
}
