//! The projection into SQL: whatever breaks, the tables are the fold of the log; what is hidden is not in them.

#[path = "support/spec.rs"]
mod spec;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::feed::Hub;
use api::node::projector::{self, ProjectError};
use api::node::{Node, NodeOptions};
use engine::{
    AccountAction, Action, Answer, BidderRef, Command, Decimal, Envelope, Format, OrganisationId,
    OrganisationKind, RequestId, Secret, TenderId, TenderSpec, UserId,
};
use persistence::sql::{BIDS, Place, Point, Store, StoreError, TABLES, Value};
use persistence::{Log, LogReader, Options, RealDisk};
use spec::{one_lot, rules};

const BUYER: OrganisationId = OrganisationId(1 << 64);
const SUPPLIERS: [OrganisationId; 3] = [OrganisationId(2 << 64), OrganisationId(3 << 64), OrganisationId(4 << 64)];

fn options(dir: &Path, database: Option<Place>) -> NodeOptions {
    NodeOptions {
        shards: 2,
        segment_bytes: 64 << 10,
        snapshot_bytes: u64::MAX,
        database,
        ..NodeOptions::new(dir.join("data"), dir.join("keys"))
    }
}

fn spec(format: Format, duration_s: i64) -> TenderSpec {
    let (title, reference) = ("Stoßstange ‹Bumper›".into(), "RFQ-17".into());
    TenderSpec { title, reference, ..one_lot(rules(format, duration_s)) }
}

/// Sends commands with request ids that count up.
struct Sender {
    node: Node,
    next: u128,
}

impl Sender {
    async fn send(&mut self, organisation: OrganisationId, action: Action) -> Answer {
        self.send_secret(organisation, action, None).await
    }

    async fn send_secret(
        &mut self,
        organisation: OrganisationId,
        action: Action,
        secret: Option<Secret>,
    ) -> Answer {
        self.next += 1;
        let envelope = Envelope { organisation, request: RequestId(self.next), ..Envelope::default() };
        let command = Command { envelope, action, secret };
        self.node.submit(self.node.stamp(), command).await.expect("taken").answer
    }

    async fn tender(&mut self, id: u128, spec: TenderSpec) -> TenderId {
        let tender = TenderId::new(id << 32);
        let mut draft = spec.clone();
        draft.lots.push(draft.lots[0].clone());
        self.send(BUYER, Action::CreateTender { tender, spec: Box::new(draft) }).await;
        // A lot that goes while the tender is a draft goes from the tables too.
        self.send(BUYER, Action::UpdateTender { tender, spec: Box::new(spec), version: 1 }).await;
        for organisation in SUPPLIERS {
            let (adjustments, features) = (Vec::new(), Vec::new());
            let admit = Action::Admit { tender, organisation, adjustments, features, accepted: false };
            self.send(BUYER, admit).await;
        }
        self.send(BUYER, Action::Publish { tender }).await;
        let answer = self.send(BUYER, Action::Start { tender }).await;
        assert!(matches!(answer, Answer::Tender(_)), "{answer:?}");
        tender
    }

    async fn bid(&mut self, bidder: usize, tender: TenderId, price: i64) -> Answer {
        let bid = Action::Bid {
            lot: tender.lot(1),
            price: Some(Decimal { mantissa: price, scale: 2 }),
            confirm: true,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        };
        self.send(SUPPLIERS[bidder], bid).await
    }
}

/// A finished tender, a running sealed one, accounts, refusals, a voided bid; in several entries.
async fn play(node: &Node) -> TenderId {
    let mut sender = Sender { node: node.clone(), next: 100 };
    for n in 1..=4u128 {
        let organisation = OrganisationId(n << 64);
        let action = AccountAction::Register {
            user: UserId(n),
            organisation,
            organisation_name: format!("Parts {n}"),
            kind: OrganisationKind::Both,
        };
        let (email, name) = (format!("p{n}@parts.example"), format!("Person {n}"));
        let secret = Secret::Person { organisation, email, name, password: "$argon2id$".into() };
        sender.send_secret(OrganisationId(0), Action::Account(action), Some(secret)).await;
    }
    let sealed = sender.tender(9, spec(Format::Sealed, 3_600)).await;
    for (bidder, price) in [(0, 90_000), (1, 80_000), (0, 70_000)] {
        assert!(matches!(sender.bid(bidder, sealed, price).await, Answer::Bid(_)));
    }
    let tender = sender.tender(5, spec(Format::English, 3_600)).await;
    for round in 0..40i64 {
        sender.bid(round as usize % 3, tender, 100_000 - round * 500).await;
        // The lead again is refused: it is no improvement.
        let again = sender.bid(round as usize % 3, tender, 100_000 - round * 500).await;
        assert!(matches!(again, Answer::Refused(_)), "{again:?}");
    }
    let newest = RequestId(sender.next - 1);
    let void = Action::Void { lot: tender.lot(1), bid: newest, reason: Some("a typing error".into()) };
    assert!(matches!(sender.send(BUYER, void).await, Answer::Voided(_)));
    let gone = Action::Disqualify { tender, bidder: BidderRef::Number(2), reason: Some("no licence".into()) };
    sender.send(BUYER, gone).await;
    let cancel = Action::Cancel { tender, reason: Some("budget".into()) };
    sender.send(BUYER, cancel).await;
    let erase = AccountAction::Erase { organisation: OrganisationId(4 << 64), reason: "asked to".into() };
    sender.send(OrganisationId(0), Action::Account(erase)).await;
    sealed
}

fn reader(options: &NodeOptions) -> (Log, LogReader, String, Vec<u64>) {
    let layout = Options {
        segment_bytes: options.segment_bytes,
        shards: options.shards + 1,
        ..Options::new(&options.data, &options.keys)
    };
    let (log, recovered) = Log::open(Arc::new(RealDisk), layout).expect("the folder of a stopped node");
    let last = recovered.last.iter().map(|last| last.index).collect();
    (log, recovered.reader(), recovered.history.to_string(), last)
}

/// Projects a log `step` entries at a time; `breaks` says where the transaction with this number is to break.
async fn project(
    place: &Place,
    (reader, history, last): (&LogReader, &str, &[u64]),
    step: usize,
    breaks: impl Fn(usize) -> Option<Point>,
) -> Vec<(&'static str, String)> {
    let mut transactions = 0;
    'open: loop {
        let mut store = Store::open(place).await.expect("a database");
        let mut replica = projector::begin(&mut store, reader, history, last).await.expect("a replica");
        let entries: Vec<_> = reader.read(replica.indexes()).expect("a log").entries.collect();
        for chunk in entries.chunks(step).chain([&[][..]]) {
            for entry in chunk {
                let entry = entry.as_ref().expect("an entry");
                assert!(!replica.apply(entry.shard, &entry.entry), "no entry comes too early");
            }
            let Some((advances, batch)) = replica.take() else { continue };
            transactions += 1;
            if let Some(point) = breaks(transactions) {
                store.break_at(point);
            }
            match store.write(history, &advances, &batch).await {
                Ok(()) => {}
                Err(StoreError::Broken) => continue 'open,
                Err(error) => panic!("{error}"),
            }
        }
        return store.checksums().await.expect("checksums");
    }
}

fn file(dir: &Path, name: &str) -> Place {
    Place::Sqlite(dir.join(name))
}

/// The databases the tests run against: SQLite always, and an empty MySQL database where `RT_TEST_MYSQL` names one.
fn places(dir: &Path, name: &str) -> Vec<Place> {
    let server = std::env::var("RT_TEST_MYSQL").ok().map(|url| Place::parse(&url).expect("a URL of MySQL"));
    [file(dir, &format!("{name}.sqlite"))].into_iter().chain(server).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_the_tables_are_the_fold_of_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = file(dir.path(), "live.sqlite");
    let options = options(dir.path(), Some(live.clone()));
    let node = Node::start(&options, &Hub::new()).expect("the node starts");
    play(&node).await;
    let stopping = node.clone();
    tokio::task::spawn_blocking(move || stopping.stop()).await.expect("stopped");
    assert_eq!(node.projection_lag().map(|(entries, ..)| entries), Some(0), "a stop leaves nothing behind");

    let (_log, reader, history, last) = reader(&options);
    let log = (&reader, history.as_str(), &last[..]);
    let fold = project(&file(dir.path(), "fold.sqlite"), log, 1, |_| None).await;
    let live = Store::open(&live).await.expect("open").checksums().await.expect("checksums");
    assert_eq!(live, fold, "what was followed live is what the log says");
    let mut store = Store::open(&file(dir.path(), "fold.sqlite")).await.expect("open");
    for table in TABLES.iter().filter(|table| !["awards", "extensions"].contains(&table.name)) {
        let rows = store.rows(table).await.expect("rows");
        assert!(!rows.is_empty(), "{} has rows", table.name);
    }
    let members = TABLES.iter().find(|table| table.name == "members").expect("a table");
    let members = store.rows(members).await.expect("rows");
    let erased = Value::Text(api::text::id(4 << 64));
    assert!(
        members.len() == 3 && members.iter().all(|row| row[1] != erased),
        "who was erased is gone: {members:?}"
    );

    for place in places(dir.path(), "broken") {
        for (step, point) in [(1, Point::Between), (3, Point::BeforeCommit), (7, Point::AfterCommit)] {
            Store::open(&place).await.expect("open").empty().await.expect("emptied");
            // Every third transaction breaks, also those that begin again.
            let found = project(&place, log, step, |number| (number % 3 == 1).then_some(point)).await;
            assert_eq!(found, fold, "{place}, {point:?}");
        }
        let mut store = Store::open(&place).await.expect("open");
        println!("{place}: version {}", store.version().await.expect("a version"));
        store.empty().await.expect("emptied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_bids_come_with_the_opening_and_numbers_without_a_name_never() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = file(dir.path(), "live.sqlite");
    let options = options(dir.path(), Some(place.clone()));
    let node = Node::start(&options, &Hub::new()).expect("the node starts");
    let sealed = play(&node).await;
    let lot = Value::Text(api::text::id(sealed.lot(1).0));
    let caught_up = |node: &Node| {
        let begun = Instant::now();
        while node.projection_lag().expect("it projects").0 > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "it catches up");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    caught_up(&node);
    let bids = async || {
        let mut store = Store::open(&place).await.expect("open");
        let rows = store.rows(&BIDS).await.expect("rows");
        rows.into_iter().filter(|row| row[0] == lot).count()
    };
    assert_eq!(bids().await, 0, "nothing of a sealed bid is told");
    let mut sender = Sender { node: node.clone(), next: 5_000 };
    sender.send(BUYER, Action::Cancel { tender: sealed, reason: Some("enough".into()) }).await;
    caught_up(&node);
    let shown = node.view().tender(sealed, |tender| tender.lots()[0].decisions_seen(None).count());
    assert_eq!(Some(bids().await), shown, "what others may see now");
    tokio::task::spawn_blocking(move || node.stop()).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_delays_nobody_and_is_caught_up_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("later");
    let place = Place::Sqlite(folder.join("live.sqlite"));
    let options = options(dir.path(), Some(place.clone()));
    let node = Node::start(&options, &Hub::new()).expect("the node starts without its database");
    play(&node).await;
    let (entries, _, failures) = node.projection_lag().expect("it projects");
    assert!(entries > 0 && failures > 0, "it lags and says so");
    std::fs::create_dir(&folder).expect("the disk is there again");
    let begun = Instant::now();
    while node.projection_lag().expect("it projects").0 > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it catches up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::task::spawn_blocking(move || node.stop()).await.expect("stopped");
    let (_log, reader, history, last) = reader(&options);
    let fold = project(&file(dir.path(), "fold.sqlite"), (&reader, &history, &last), 5, |_| None).await;
    assert_eq!(Store::open(&place).await.expect("open").checksums().await.expect("sums"), fold);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_log_gives_the_state_and_another_history_begins_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = options(dir.path(), None);
    options.snapshot_bytes = 64 << 10;
    let node = Node::start(&options, &Hub::new()).expect("the node starts");
    play(&node).await;
    let mut sender = Sender { node: node.clone(), next: 50_000 };
    let mut number = 20;
    while node.snapshots().written() < 3 {
        let tender = sender.tender(number, spec(Format::English, 3_600)).await;
        for price in 0..60 {
            sender.bid(price as usize % 3, tender, 90_000 - price * 10).await;
        }
        number += 1;
    }
    let tenders: usize = node.view().engines(|engine| engine.tenders().len()).into_iter().sum();
    tokio::task::spawn_blocking(move || node.stop()).await.expect("stopped");
    let (_log, reader, history, last) = reader(&options);
    let base: u64 = reader.read(last.clone()).expect("a log").base.iter().sum();
    assert!(base > 0, "the log was cut");
    let place = file(dir.path(), "late.sqlite");
    let late = project(&place, (&reader, &history, &last), 5, |_| None).await;
    let mut store = Store::open(&place).await.expect("open");
    assert_eq!(store.rows(&persistence::sql::TENDERS).await.expect("rows").len(), tenders);
    let gaps = store.rows(&persistence::sql::PROJECTION).await.expect("rows");
    assert!(gaps.iter().any(|row| row[4] != Value::Null), "the gap is told: {gaps:?}");
    // Another history in the same database: nothing of the old one stays.
    let other = "00000000-0000-4000-8000-000000000000";
    let again = project(&place, (&reader, other, &last), 50, |_| None).await;
    assert_eq!(again, late);
    let positions = store.positions(last.len() as u16).await.expect("positions");
    assert!(positions.iter().all(|position| position.history == other || position.entry == 0));
}

#[tokio::test]
async fn the_tables_are_those_of_the_migrations() {
    let dir = tempfile::tempdir().expect("a folder");
    for place in places(dir.path(), "tables") {
        let mut store = Store::open(&place).await.expect("open");
        for table in TABLES {
            assert!(store.rows(table).await.expect("every column is there").is_empty(), "{}", table.name);
        }
        let migrations = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../persistence/migrations");
        for dialect in ["sqlite", "mysql"] {
            let text = std::fs::read_to_string(migrations.join(dialect).join("0001_auctions.sql")).expect("text");
            for table in TABLES {
                let from = text.find(&format!("CREATE TABLE {} (", table.name)).expect("the table");
                let body = text[from..].lines().skip(1).take_while(|line| !line.contains("PRIMARY KEY"));
                let names: Vec<&str> = body.filter_map(|line| line.split_whitespace().next()).collect();
                assert!(table.columns.iter().map(|column| column.name).eq(names), "{dialect} {}", table.name);
            }
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let error = ProjectError::State("the log was cut".into());
    assert_eq!(error.to_string(), "the log was cut");
    assert!(
        Place::parse("mysql://a:secret@db.example/auctions")
            .expect("a place")
            .to_string()
            .ends_with("a@db.example/auctions")
    );
    for wrong in ["", "sqlite:", "postgres://a/b", "mysql://host", "auctions.db"] {
        assert!(Place::parse(wrong).is_err(), "{wrong}");
    }
}
