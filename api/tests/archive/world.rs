//! A small history with accounts, a tender and bids, shipped by a real node to a folder; and the ways to look at what a
//! restore made of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};
use std::sync::Arc;

use api::archive::Location;
use api::feed::Hub;
use api::node::{Machine, Node, NodeOptions, recover};
use engine::{
    AccountAction, Action, Command, Decimal, Envelope, Format, Key, OrganisationId, OrganisationKind, RequestId,
    Secret, TenderId, UserId,
};
use persistence::archive::{ArchiveError, Part, Progress, Restore, Restored, Store, Target};
use persistence::{Log, Options, RealDisk, Seal, system_random};

use crate::support::spec::{one_lot, rules};

pub const BUYER: OrganisationId = OrganisationId(1 << 64);
pub const SUPPLIER: OrganisationId = OrganisationId(2 << 64);
pub const TENDER: TenderId = TenderId::new(7 << 32);

/// Folders of one test.
pub struct World {
    pub dir: tempfile::TempDir,
    /// What its nodes seal.
    pub seal: Seal,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), seal: Seal::Secrets }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self, name: &str) -> Arc<dyn Store> {
        Location::Folder(self.path(name)).open().expect("a store")
    }

    pub fn options(&self, data: &str, archive: Option<&str>) -> NodeOptions {
        NodeOptions {
            shards: 2,
            segment_bytes: 64 << 10,
            snapshot_bytes: 50_000,
            archive: archive.map(|name| self.store(name)),
            seal: self.seal,
            ..NodeOptions::new(self.path(data), self.path("keys"))
        }
    }

    /// What a start of the folder `data` finds: index and state of each shard.
    pub fn recovered(&self, data: &str) -> Vec<(u64, [u8; 32])> {
        let layout = Options { shards: 3, ..Options::new(self.path(data), self.path("keys")) };
        let recovery = recover(Arc::new(RealDisk), layout, &Hub::new(), 0).expect("it starts");
        recovery.shards.iter().map(|shard| (shard.machine.index(), shard.machine.state_hash())).collect()
    }

    /// The state after the first `entries` entries of the whole log in `data`, by a replay without any snapshot.
    pub fn cold(&self, data: &str, entries: u64) -> Vec<(u64, [u8; 32])> {
        let layout = Options { shards: 3, ..Options::new(self.path(data), self.path("keys")) };
        let (_log, recovered) = Log::open(Arc::new(RealDisk), layout).expect("it opens");
        let mut machines: Vec<Machine> = (0..3).map(Machine::new).collect();
        for entry in recovered.entries_from_start().take(entries as usize) {
            let entry = entry.expect("a sound entry");
            machines[usize::from(entry.shard)].apply(&entry.entry, &mut ());
            machines[usize::from(entry.shard)].maintain();
        }
        machines.iter().map(|machine| (machine.index(), machine.state_hash())).collect()
    }

    /// Restores `archive` to a new folder `data`.
    pub fn restore(&self, archive: &str, data: &str, target: Target) -> Result<Restored, ArchiveError> {
        self.restore_from(self.store(archive), data, target)
    }

    pub fn restore_from(
        &self,
        store: Arc<dyn Store>,
        data: &str,
        target: Target,
    ) -> Result<Restored, ArchiveError> {
        let restore = Restore {
            store,
            disk: Arc::new(RealDisk),
            dir: self.path(data),
            keys_dir: self.path("keys"),
            master: None,
            target,
            history: None,
            new_history: false,
            random: system_random,
        };
        aside(|| restore.run(&Quiet))
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Process::new(env!("CARGO_BIN_EXE_reversetender"));
        command.current_dir(self.dir.path()).args(arguments).output().expect("it runs")
    }
}

/// Does something that waits, on a thread that may.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("it ends"))
}

/// Says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: Part, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

pub fn command(organisation: OrganisationId, request: u128, action: Action) -> Command {
    let key = Some(Key { scoped: request, body: 1 });
    let request = RequestId(request);
    Command { envelope: Envelope { organisation, request, key, ..Envelope::default() }, action, secret: None }
}

pub async fn submit(node: &Node, organisation: OrganisationId, request: u128, action: Action) {
    node.submit(node.stamp(), command(organisation, request, action)).await.expect("taken");
}

/// Signs somebody up: a command with a secret part.
pub async fn person(node: &Node, n: u128) {
    let organisation = OrganisationId(n << 64);
    let action = AccountAction::Register {
        user: UserId(n),
        organisation,
        organisation_name: format!("Parts {n}"),
        kind: OrganisationKind::Both,
    };
    let mut command = command(OrganisationId(0), 900 + n, Action::Account(action));
    let (email, name) = (format!("p{n}@parts.example"), format!("Person {n}"));
    command.secret = Some(Secret::Person { organisation, email, name, password: "$argon2id$".into() });
    node.submit(node.stamp(), command).await.expect("taken");
}

/// Opens the tender with one lot.
pub async fn open_tender(node: &Node) {
    let spec = one_lot(rules(Format::English, 36_000));
    submit(node, BUYER, 1, Action::CreateTender { tender: TENDER, spec: Box::new(spec) }).await;
    let (adjustments, features) = (Vec::new(), Vec::new());
    let admit = Action::Admit { tender: TENDER, organisation: SUPPLIER, adjustments, features, accepted: true };
    submit(node, BUYER, 2, admit).await;
    submit(node, BUYER, 3, Action::Publish { tender: TENDER }).await;
    submit(node, BUYER, 4, Action::Start { tender: TENDER }).await;
}

/// Bids one by one, each in a batch of its own.
pub async fn bids(node: &Node, first: u64, count: u64) {
    for n in first..first + count {
        let price = Some(Decimal { mantissa: 100_000_000 - n as i64, scale: 2 });
        let action = Action::Bid {
            lot: TENDER.lot(1),
            price,
            confirm: true,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        };
        submit(node, SUPPLIER, 10_000 + u128::from(n), action).await;
    }
}

/// All objects of an archive in a folder, by name.
pub fn objects(archive: &Path) -> BTreeMap<String, PathBuf> {
    fn walk(dir: &Path, name: &str, found: &mut BTreeMap<String, PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let entry = entry.expect("an entry");
            let inner = entry.file_name().to_string_lossy().into_owned();
            let name = if name.is_empty() { inner } else { format!("{name}/{inner}") };
            if entry.file_type().expect("a type").is_dir() {
                walk(&entry.path(), &name, found);
            } else {
                found.insert(name, entry.path());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(archive, "", &mut found);
    found
}
