//! The commands that look after keys: rotate and revoke data keys, and destroy an organisation's key.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{LogTime, OrganisationId};
use persistence::checkpoint::hex;
use persistence::{Disk, KeyError, Keys, Ordered, RealDisk, sealed_under, system_random};

use crate::config::{self, Config};
use crate::node;

/// What was asked for is wrong.
const WRONG: u8 = 2;
/// How long the node is given to carry out an order.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest reason, in bytes.
const REASON_MAX: usize = 500;

fn open(config: &Config) -> Result<Keys, KeyError> {
    let disk = Arc::new(RealDisk);
    match config::master_key() {
        Some(master) => master.keys(disk, &config.keys, system_random),
        None => Keys::open(disk, &config.keys, system_random, false),
    }
}

/// Makes a new data key, or a new key that roots are signed with, beside a running node or without one.
///
/// # Errors
/// The keys can't be read or written.
pub fn rotate(config: &Config, audit: bool) -> anyhow::Result<ExitCode> {
    let keys = open(config)?;
    if audit {
        let public = keys.rotate_audit_key(LogTime(node::wall_ms()))?;
        println!("{}", hex(&public));
    } else {
        println!("{:016x}", keys.rotate()?);
    }
    Ok(ExitCode::SUCCESS)
}

fn wrong(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    ExitCode::from(WRONG)
}

/// Takes a data key out of use when nothing needs it any more.
///
/// # Errors
/// The keys or the data can't be read or written.
pub fn revoke(config: &Config, key: &str, lose_proofs: bool) -> anyhow::Result<ExitCode> {
    let Some(id) = u64::from_str_radix(key, 16).ok().filter(|id| *id > 0 && key.len() <= 16) else {
        return Ok(wrong(&format!("{key:?} is no data key; valid: its number as `keys rotate` prints it")));
    };
    let keys = open(config)?;
    let newest = keys.look_for_data_keys()?;
    if id >= newest {
        return Ok(wrong(&format!(
            "data key {id:016x} is the newest or none: everything new is sealed under {newest:016x}. Rotate first"
        )));
    }
    let under = sealed_under(&RealDisk, &config.data, id)?;
    if let Some(first) = under.needed.first() {
        eprintln!(
            "error: {} files are sealed under data key {id:016x}, {} among them: without it the node could not start. They \
             go by themselves: the log continues under the newest key with its next record, and old segments and snapshots \
             are let go as newer snapshots are taken (--snapshot-bytes). Look again then",
            under.needed.len(),
            first.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    if let Some(first) = under.journals.first().filter(|_| !lose_proofs) {
        eprintln!(
            "error: {} journals of the audit hold records sealed under data key {id:016x}, {} among them: exports and receipts \
             of these records could not be given any more. Journals are never cut; if nobody may ask for those proofs again, \
             give --lose-proofs",
            under.journals.len(),
            first.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    let path = keys.revoke(id)?;
    println!("data key {id:016x} is out of use. Nothing was destroyed: it lies in {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Has the running node forget an organisation's personal data and destroy its key.
///
/// # Errors
/// The keys can't be read or written.
pub fn destroy(config: &Config, organisation: &str, reason: &str, confirmed: bool) -> anyhow::Result<ExitCode> {
    let Ok(id) = uuid::Uuid::parse_str(organisation) else {
        return Ok(wrong(&format!("{organisation:?} is no organisation; valid: its id, a UUID")));
    };
    if reason.trim().is_empty() || reason.len() > REASON_MAX {
        return Ok(wrong(&format!(
            "--reason: 1 to {REASON_MAX} bytes, and no person's name: it stays in the log"
        )));
    }
    if !confirmed {
        return Ok(wrong(&format!(
            "this erases for ever the e-mail addresses, names and passwords of all persons of organisation {id}, and its \
             hidden prices and limits, in the data, its archive and its backups; nobody can bring them back. Nothing was \
             done. Give --yes-i-know to do it"
        )));
    }
    let organisation = OrganisationId(id.as_u128());
    let keys = open(config)?;
    // Whoever has the lock serves. It must forget what it has in memory, or would write it again.
    match RealDisk.lock(&config.data) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(anyhow::Error::from(error).context(config.data.display().to_string())),
        Ok(_) => {
            eprintln!(
                "error: no node serves {}: start it, it carries this out while it runs",
                config.data.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    keys.order_destruction(organisation, reason.trim())?;
    let until = Instant::now() + PATIENCE;
    loop {
        match keys.ordered(organisation)? {
            Ordered::Waits if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Ordered::Waits => {
                eprintln!("error: the node has not carried it out yet; the order stands, and its log will say so");
                return Ok(ExitCode::FAILURE);
            }
            Ordered::Done => {
                println!(
                    "organisation {id}: its persons are gone, its key is destroyed, what it sealed can't be read any more"
                );
                println!("destroy the copies of {id}.key in the backups of the keys directory as well");
                return Ok(ExitCode::SUCCESS);
            }
            Ordered::NoKey => {
                println!("organisation {id}: nothing was ever sealed for it; it has no key");
                return Ok(ExitCode::SUCCESS);
            }
            Ordered::Refused(why) => {
                keys.forget_answer(organisation)?;
                eprintln!("error: organisation {id}: {why}");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}
