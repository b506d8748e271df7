//! Every benchmark once in small: both sides of each comparison do the same work and agree about it. No times.

use std::sync::Arc;

use bench::apply::{self, AUTO_BIDDERS, Swallow, on_engine, on_peer};
use bench::codec;
use bench::formats::{FormatLoad, Kind};
use bench::log_append;
use bench::protection;
use bench::redis::Redis;
use bench::replication;
use bench::servers::mysql::{Mysql, Program};
use bench::std_maps::{PeerSink, StdMaps};
use bench::stores;
use bench::workload::{BATCH, Workload};
use engine::{Answer, Lot, LotStage, Outcome, Refusal, Reply, Settling, Sink, Step, Tender};

/// Everything that applying gave, to be compared.
#[derive(Default)]
struct Kept {
    replies: Vec<Reply>,
    steps: Vec<Step>,
}

impl Sink for Kept {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.replies.push(reply.clone());
    }

    fn step(&mut self, _: &Tender, _: &Lot, step: &Step) {
        self.steps.push(step.clone());
    }
}

impl PeerSink for Kept {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.replies.push(reply.clone());
    }

    fn step(&mut self, step: &Step) {
        self.steps.push(step.clone());
    }
}

#[test]
fn engine_and_peer_decide_alike() {
    for lots in [1, 7, 130] {
        let (mut workload, mut engine) = Workload::new(lots);
        assert_eq!(workload.lots().len(), lots);
        let mut peer = StdMaps::like(&engine);
        let (mut ours, mut theirs) = (Kept::default(), Kept::default());
        // The last entry comes twice: every bid of it is a repeat under its key.
        let mut entries = workload.entries(30);
        let mut again = entries[29].clone();
        again.index += 1;
        entries.push(again);
        for entry in &entries {
            engine.maintain();
            engine.apply(entry, &mut ours);
            peer.apply(entry, &mut theirs);
        }
        assert_eq!(ours.replies.len(), 31 * BATCH);
        for (ours, theirs) in ours.replies.iter().zip(&theirs.replies) {
            assert_eq!(ours, theirs, "{lots} lots");
        }
        assert_eq!(ours.steps, theirs.steps, "{lots} lots");
        let accepted = ours.replies.iter().filter(|reply| matches!(reply.answer, Answer::Bid(_))).count();
        let refused = |reply: &&Reply| matches!(reply.answer, Answer::Refused(refused) if refused.refusal == Refusal::NotImproved);
        assert!(accepted > 25 * BATCH, "most bids stand");
        assert!(ours.replies.iter().filter(refused).count() > 10, "some are refused");
        assert_eq!(ours.replies.iter().filter(|reply| reply.replayed).count(), BATCH);
        engine.check_invariants();
    }
}

#[test]
fn applying_a_bid_allocates_nothing() {
    let (mut workload, mut engine) = Workload::new(200);
    let mut sink = Swallow::default();
    // Steady state: every bidder has a standing bid in nearly every lot.
    on_engine(&mut engine, &workload.entries(60), &mut sink);
    let spent = on_engine(&mut engine, &workload.entries(40), &mut sink);
    assert_eq!(spent.apply, 0, "allocations while applying {} bids", 40 * BATCH);
    assert_eq!(sink.replies as usize, 100 * BATCH);
}

#[test]
fn the_rows_of_apply_and_codec_are_measured() {
    let row = apply::measure(10, 4, 2);
    assert_eq!((row.lots, row.bids), (10, 8 * BATCH));
    assert!(row.engine_ns > 0.0 && row.peer_ns > 0.0 && row.ratio > 0.0);
    assert_eq!(row.engine_allocations, 0.0);

    let folder = tempfile::tempdir().expect("a folder for the keys");
    let sealer = codec::sealer(folder.path()).expect("keys are made");
    for bids in [1, BATCH] {
        let row = codec::measure(bids, 3, &sealer).expect("entries are encoded and decoded");
        assert!(row.overhead <= 48, "{} bytes beside the payload", row.overhead);
        assert_eq!(row.encode_allocations, 0, "encoding into a used batch");
        let entry = codec::entry(bids);
        let payload = codec::payload(&entry).expect("it is encoded");
        assert_eq!(codec::read(&payload, &entry, &sealer).expect("it is decoded"), entry);
    }
}

#[test]
fn the_rows_of_the_formats_are_measured() {
    for kind in Kind::ALL {
        let mut load = FormatLoad::new(kind);
        let mut sink = Swallow::default();
        // Past the end of a japanese level and of a tender of dutch lots.
        let (spent, applied) = load.apply(70 * BATCH, &mut sink);
        assert_eq!(sink.replies as usize, applied, "{kind:?}");
        assert!(spent.ns > 0.0 && applied >= 70 * BATCH);
        load.engine().check_invariants();
        let lots = || load.engine().tenders().flat_map(Tender::lots);
        let accepted = |outcome: &Outcome| !matches!(outcome, Outcome::Refused(_));
        let refused = lots().flat_map(Lot::decisions).filter(|decision| !accepted(&decision.outcome)).count();
        assert_eq!(refused, 0, "{kind:?}: everything is accepted");
        match kind {
            Kind::Dutch => assert!(lots().filter(|lot| lot.stage == LotStage::Closed).count() >= 70 * BATCH),
            Kind::Japanese => assert!(lots().all(|lot| lot.bidder_count() == 20), "a level has ended"),
            Kind::AutoBid => {
                let automatic = |outcome: &Outcome| matches!(outcome, Outcome::Automatic(_));
                let fired = lots().flat_map(Lot::decisions).filter(|decision| automatic(&decision.outcome));
                assert!(fired.count() > 70 * BATCH, "the leader's limit answers every bid");
            }
            _ => {}
        }
    }
}

#[test]
fn limits_settle_however_many_they_are() {
    for bidders in AUTO_BIDDERS {
        let mut lot = Settling::new(bidders);
        assert_eq!(lot.open(), usize::from(bidders), "everybody's limit makes a bid");
        lot.check();
        for _ in 0..3 {
            assert_eq!(lot.bid(), 1, "the leader's limit answers");
            lot.check();
        }
        assert!(apply::opening(bidders, 1).as_nanos() > 0);
    }
}

#[test]
fn the_peer_meets_the_same_bids() {
    let (mut workload, engine) = Workload::new(3);
    let mut peer = StdMaps::like(&engine);
    let mut sink = Swallow::default();
    let spent = on_peer(&mut peer, &workload.entries(5), &mut sink);
    assert_eq!(sink.replies as usize, 5 * BATCH);
    assert!(sink.steps > 0 && spent.apply > 0, "maps allocate");
}

#[test]
fn the_row_of_log_append_is_measured() {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let row = log_append::measure(folder.path(), 2, 5).expect("the log appends");
    for (name, histogram) in row.lines() {
        assert_eq!(histogram.len(), 10, "{name}");
    }
    assert!(row.bytes > 100 && row.ratio() > 0.0 && row.thread_ratio() > 0.0);
    // What was appended is a log: it opens, and holds every bid.
    let options = persistence::Options::new(folder.path().join("data"), folder.path().join("keys"));
    let (_log, recovered) = persistence::Log::open(Arc::new(persistence::RealDisk), options).expect("it opens");
    let entries: Vec<_> = recovered.entries().map(|entry| entry.expect("an entry is read")).collect();
    assert_eq!(entries.len() as u64, recovered.last[1].index);
    assert!(entries.len() >= 20);
}

#[test]
fn one_voter_under_raft_is_measured_beside_one_node_alone() {
    for commands in [1, 44] {
        let folder = tempfile::tempdir().expect("a folder for the logs");
        let row = replication::measure(folder.path(), commands, 20).expect("both commit");
        assert_eq!((row.solo.len(), row.raft.len()), (20, 20));
        assert!(row.ratio() > 0.0);
    }
}

#[test]
fn embedded_stores_take_what_the_log_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let sub = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("made");
        place
    };
    let one = stores::one_at_a_time(&sub("one"), 10).expect("measured");
    assert!(one.0.len() == 4 && one.0.iter().all(|(_, histogram)| histogram.len() == 10));
    assert_eq!(one.ratios().len(), 3);
    let many =
        stores::many_at_once(&sub("many"), 1, std::time::Duration::from_millis(50), None).expect("measured");
    assert!(many.flushes_per_s > 0.0 && many.raw_per_s > 0.0);
    let many = many.sides;
    assert!(many.len() == 4 && many.iter().all(|side| side.per_s > 0.0));
}

#[test]
fn redis_takes_bids_that_beat_the_best() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(redis) = Redis::start(folder.path()).expect("started") else {
        println!("skipped: redis (redis-server is not installed)");
        return;
    };
    let mut bidder = redis.bidder().expect("connected");
    for _ in 0..20 {
        assert!(bidder.bid().expect("taken") > 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let time = std::time::Duration::from_millis(50);
    let (taken, _, latency) = runtime.block_on(redis.closed(4, time)).expect("measured");
    assert!(taken >= 4 && latency.len() == taken);
}

#[test]
fn mysql_takes_bids_that_beat_the_best() {
    let cache = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mysql");
    let Some(program) = Program::find(&cache) else {
        println!("skipped: mysql (nothing could be fetched, and MariaDB is not installed)");
        return;
    };
    println!("{}", program.version());
    let folder = tempfile::tempdir().expect("a folder");
    let server = Mysql::start(&program, folder.path()).expect("started");
    let mut connection = server.connect().expect("connected");
    for statement in ["CREATE DATABASE t", "CREATE TABLE t.lots (id INT PRIMARY KEY, price BIGINT)"] {
        connection.execute(statement).expect("taken");
    }
    assert_eq!(connection.execute("INSERT INTO t.lots VALUES (1, 100)").expect("taken"), 1);
    let mut bid = |price: u64| {
        let sql = format!("UPDATE t.lots SET price = {price} WHERE id = 1 AND price > {price}");
        connection.execute(&sql).expect("answered")
    };
    assert_eq!([bid(90), bid(90), bid(95), bid(80)], [1, 0, 0, 1], "only what beats the best is taken");
    assert!(connection.execute("SELEC").is_err());
}

#[test]
fn logs_with_and_without_seal_and_audit_take_the_same_entries() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = protection::measure(folder.path(), 8, 20).expect("measured");
    assert_eq!(row.bids, 8);
    assert!(row.costs.iter().all(|cost| cost.time.len() == 20 && cost.processor.len() == 20));
    let names: Vec<_> = row.ratios().iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["everything sealed", "audit", "everything sealed, audit"]);
    // What is sealed is not in the files as it is: the title of the tender lies open in the first log.
    let tag = b"Front bumper, Hilux 2021";
    let holds = |side: usize| {
        let log = folder.path().join(side.to_string()).join("data/log");
        std::fs::read_dir(log).expect("listed").any(|file| {
            let bytes = std::fs::read(file.expect("an entry").path()).expect("read");
            bytes.windows(tag.len()).any(|window| window == tag)
        })
    };
    assert_eq!([0, 1, 2, 3].map(holds), [true, false, true, false]);
}
