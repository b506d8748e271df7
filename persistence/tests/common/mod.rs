//! What the tests of the log share: small entries, a folder on a disk, a log that answers for what it flushed.
#![allow(dead_code)] // Each test file uses a part.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{
    AccountAction, Action, Command, Decimal, Entry, Envelope, LogTime, LotId, OrganisationId, OrganisationKind,
    RequestId, Secret, TenderId, UserId,
};
use persistence::faulty::FaultyDisk;
use persistence::{
    AppendError, Batch, Class, Disk, Log, OpenError, Options, Recovered, RecoveredEntry, Sealer, system_random,
};

pub const SHARDS: u16 = 3;
pub const MARKER: &str = "marker-7f3a@example.org";

pub fn options() -> Options {
    Options { segment_bytes: 64 << 10, shards: SHARDS, ..Options::new("/data", "/keys") }
}

pub fn open(disk: &FaultyDisk) -> Result<(Log, Recovered), OpenError> {
    open_with(disk, options())
}

pub fn open_with(disk: &FaultyDisk, options: Options) -> Result<(Log, Recovered), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, options)
}

pub fn segments(disk: &FaultyDisk) -> Vec<PathBuf> {
    let segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    disk.files().into_iter().filter(segment).collect()
}

pub fn snapshots(disk: &FaultyDisk) -> Vec<PathBuf> {
    let snapshot = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "snap");
    disk.files().into_iter().filter(snapshot).collect()
}

pub fn tender() -> TenderId {
    TenderId::new(0x0190_0000_0000_7000_8000_0000_0000_0000)
}

pub fn lot() -> LotId {
    tender().lot(1)
}

pub fn bid(number: u64, padding: usize) -> Command {
    Command {
        envelope: Envelope {
            at: LogTime(1_000 + number as i64),
            organisation: OrganisationId(7),
            request: RequestId(u128::from(number)),
            salt: [number as u8; 16],
            ..Envelope::default()
        },
        action: if padding == 0 {
            Action::Bid {
                lot: lot(),
                price: Some(Decimal { mantissa: 100_000 - number as i64, scale: 2 }),
                confirm: false,
                expires_at: None,
                seen_seq: Some(number),
                auto_limit: None,
                all_or_nothing: None,
            }
        } else {
            Action::Cancel { tender: tender(), reason: Some("x".repeat(padding)) }
        },
        secret: None,
    }
}

pub fn registration(number: u64, email: &str) -> Command {
    let organisation = OrganisationId(u128::from(number) << 64 | 5);
    Command {
        envelope: Envelope { salt: [number as u8 | 1; 16], ..Envelope::default() },
        action: Action::Account(AccountAction::Register {
            user: UserId(u128::from(number)),
            organisation,
            organisation_name: "Parts Ltd".into(),
            kind: OrganisationKind::Supplier,
        }),
        secret: Some(Secret::Person {
            organisation,
            email: email.into(),
            name: "A. Person".into(),
            password: "$argon2id$…".into(),
        }),
    }
}

pub fn entry(index: u64, commands: Vec<Command>) -> Entry {
    Entry { index, commands }
}

pub fn batch_of(entries: &[(u16, Entry)], term: u64, sealer: &Sealer) -> Batch {
    let mut batch = Batch::new();
    for (shard, entry) in entries {
        batch.push_entry(*shard, term, entry, sealer).expect("encoded");
    }
    batch
}

pub fn append(log: &mut Log, sealer: &Sealer, entries: &[(u16, Entry)]) -> Result<(), AppendError> {
    let mut batch = Batch::new();
    for (shard, entry) in entries {
        let pushed = batch.push_entry(*shard, 1, entry, sealer);
        pushed.map_err(|error| AppendError::Failed(std::io::Error::other(error)))?;
    }
    log.append(&mut batch)
}

pub fn append_control(log: &mut Log, sealer: &Sealer, entries: &[(u16, Entry)]) -> Result<(), AppendError> {
    let mut batch = batch_of(entries, 1, sealer);
    batch.class = Class::Control;
    log.append(&mut batch)
}

pub fn replay(recovered: &Recovered) -> Vec<(u16, Entry)> {
    let entries: Result<Vec<RecoveredEntry>, OpenError> = recovered.entries_from_start().collect();
    entries.expect("every entry is readable").into_iter().map(|found| (found.shard, found.entry)).collect()
}

pub fn random() -> persistence::Random {
    system_random
}

pub fn data(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}
