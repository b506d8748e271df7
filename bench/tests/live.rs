//! The load generator and the socket rows once in small, against the real program. No times.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bench::client::{metric, set_up};
use bench::load::{self, FLUSHES};
use bench::server::{Server, program_built};
use bench::{codec, socket};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on the disk")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bids_at_a_fixed_rate_and_in_a_closed_loop_are_all_accepted() {
    let folder = folder();
    let program = program_built().expect("the program is built");
    let server = Server::start(&program, &folder.path().join("data")).await.expect("the server starts");
    let field = set_up(&server.address, "small", 12, 3).await.expect("a tender opens");
    assert_eq!((field.lots.len(), field.bidders.len()), (12, 3));

    let before = metric(&server.admin, FLUSHES).await.expect("flushes are counted");
    let bidders = load::connect(&server.address, &field, "open", 6).await.expect("sockets open");
    let open = load::open(bidders, 100, Duration::from_secs(1), |_| {}).await.expect("the load runs");
    assert_eq!((open.accepted, open.unanswered), (100, 0));
    assert!(open.refused.is_empty(), "{:?}", open.refused);
    assert_eq!(open.latency.len(), 100, "one latency a bid");
    let flushes = metric(&server.admin, FLUSHES).await.expect("flushes are counted") - before;
    assert!((1.0..=110.0).contains(&flushes), "at most one flush a bid, and few beside: {flushes}");

    // New tenders: the prices of a closed loop begin at the ceiling again.
    let field = set_up(&server.address, "small-2", 12, 3).await.expect("a tender opens");
    let bidders = load::connect(&server.address, &field, "closed", 6).await.expect("sockets open");
    let (closed, bidders) = load::closed(bidders, Duration::from_millis(300)).await.expect("the load runs");
    assert_eq!(bidders.len(), 6);
    assert!(closed.accepted >= 6 && closed.refused.is_empty(), "{:?}", closed.refused);
}

#[tokio::test]
async fn the_socket_rows_are_measured() {
    let folder = folder();
    let program = program_built().expect("the program is built");
    let place = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("a folder for a row");
        place
    };
    let sealer = codec::sealer(&place("keys")).expect("keys are made");
    let record = socket::record_bytes(1, &sealer).expect("a bid is encoded");
    let one = socket::one_in_flight(&program, &place("one"), 10, record).await.expect("the row is measured");
    assert_eq!((one.bid.len(), one.trip.len(), one.flush.len()), (10, 10, 10));
    assert!(one.ratio() > 0.0);
    let time = Duration::from_millis(200);
    let many =
        socket::many_in_flight(&program, &place("many"), 16, 2, time, &sealer).await.expect("the row is measured");
    assert!(many.bids_per_s > 0.0 && many.bids_per_flush >= 0.9 && many.raw_flushes_per_s > 0.0);
}

#[test]
fn loadgen_teaches_and_keeps_to_this_machine() {
    let loadgen = Path::new(env!("CARGO_BIN_EXE_loadgen"));
    let help = Command::new(loadgen).arg("--help").output().expect("it runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("--limits off") && help.contains("Examples:"), "{help}");
    let far = Command::new(loadgen).args(["--address", "192.0.2.1:80", "closed"]).output().expect("it runs");
    assert!(!far.status.success());
    assert!(String::from_utf8_lossy(&far.stderr).contains("loopback only"));
}
