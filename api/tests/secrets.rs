//! Prices and limits that must stay secret, each with digits of its own, sent to the real program through both doors:
//! nobody else reads them, and they are in no file, line of the program's log or metric.

mod process;
mod support;

use std::path::Path;

use process::{Process, sign_up};
use serde_json::{Value, json};
use support::socket::Socket;
use support::{Client, Ids, create_tender, eventually, fresh};

/// One secret: the price as it is sent, at scale 2.
struct Secret(&'static str);

impl Secret {
    fn units(&self) -> i64 {
        self.0.replace('.', "").parse().expect("digits")
    }

    /// Where it stands in `bytes`, as digits or as a number of any kind that programs write.
    fn find(&self, bytes: &[u8]) -> Option<String> {
        let units = self.units();
        let whole = self.0.split('.').next().expect("digits");
        let forms: [(&str, Vec<u8>); 6] = [
            ("text", self.0.as_bytes().to_vec()),
            ("whole part", whole.as_bytes().to_vec()),
            ("units", units.to_string().into_bytes()),
            ("little endian", units.to_le_bytes().to_vec()),
            ("big endian", units.to_be_bytes().to_vec()),
            ("zigzag", (units * 2).to_le_bytes().to_vec()),
        ];
        let found = forms.iter().find(|(_, form)| memchr_all(bytes, form));
        found.map(|(name, _)| format!("{} as {name}", self.0))
    }
}

fn memchr_all(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

const SEALED: Secret = Secret("734919345711.53");
const PREBID: Secret = Secret("634919345712.59");
const LIMIT: Secret = Secret("534919345713.61");
const WITH_BID: Secret = Secret("434919345714.67");
const DUTCH: Secret = Secret("334919345715.71");
const TURN: Secret = Secret("234919345716.73");
const DROPPED: Secret = Secret("834919345717.79");
const REFUSED: Secret = Secret("934919345718.83");
const ALL: [Secret; 8] = [SEALED, PREBID, LIMIT, WITH_BID, DUTCH, TURN, DROPPED, REFUSED];

#[track_caller]
fn clean(what: &str, bytes: &[u8]) {
    for secret in &ALL {
        if let Some(found) = secret.find(bytes) {
            panic!("{found} is in {what}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]));
        }
    }
}

/// A price that everybody may see; it shows that the search would find one that nobody may.
const SHOWN: Secret = Secret("954919345719.87");

/// Looks through all files; answers how many there are, and in how many of them the price is that is no secret.
fn clean_folder(dir: &Path) -> (usize, usize) {
    let (mut files, mut shown) = (0, 0);
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let (more, found) = clean_folder(&path);
            (files, shown) = (files + more, shown + found);
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            clean(&path.display().to_string(), &bytes);
            files += 1;
            shown += usize::from(SHOWN.find(&bytes).is_some());
        }
    }
    (files, shown)
}

/// A public tender of one lot, published, with all `suppliers` admitted.
async fn lot(buyer: &Client, rules: Value, suppliers: &[&str]) -> Ids {
    let mut body = json!({ "title": "Secrets", "currency": "SAR", "public": true, "lots": [] });
    body["lots"] = json!([{ "title": "Lot", "items": [], "rules": rules }]);
    let ids = create_tender(buyer, &body).await;
    for organisation in suppliers {
        buyer.post(&ids.tender("/bidders"), &json!({ "organisation": organisation })).await.expect(201);
    }
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    ids
}

async fn start(buyer: &Client, ids: &Ids) {
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
}

async fn bid(supplier: &Client, ids: &Ids, price: &str) {
    supplier.post(&ids.lot("/bids"), &json!({ "price": price, "confirm": true })).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_in_no_file_no_line_and_no_answer_to_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = "info,api=trace,engine=trace,persistence=trace";
    let settings = ["--snapshot-bytes", "65536", "--log", log];
    let mut process = Process::start_with(dir.path(), dir.path(), &settings).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let (rival, rival_id) = sign_up(&process.client(), "rival", "supplier").await;
    let (stranger, _) = sign_up(&process.client(), "stranger", "supplier").await;
    let both = [actor_id.as_str(), rival_id.as_str()];
    let mut socket = Socket::connect(&actor).await;
    let place = |ids: &Ids, d: Value| {
        let mut d = d;
        (d["lot"], d["cid"], d["confirm"]) = (json!(ids.lots[0]), json!(fresh("cid")), json!(true));
        d
    };

    let sealed = lot(&buyer, json!({ "format": "sealed", "duration_s": 3600 }), &both).await;
    let prebids =
        lot(&buyer, json!({ "format": "english", "duration_s": 3600, "prebid": "allowed" }), &both).await;
    let limits = lot(&buyer, json!({ "format": "english", "duration_s": 3600, "auto_bid": true }), &both).await;
    let dutch = json!({ "format": "dutch", "ceiling": "990000000000.00",
        "dutch": { "start": "100000000000.00", "step": "100000000.00", "interval_s": 3600 } });
    let dutch = lot(&buyer, dutch, &both).await;
    let rounds = json!({ "format": "rounds",
        "rounds": { "count": 1, "turn_s": 3600, "pause_s": 0, "lead_in_s": 0, "announce_s": 0 } });
    let rounds = lot(&buyer, rounds, &both).await;
    let lots = [&sealed, &prebids, &limits, &dutch, &rounds];
    let mut watchers = Vec::new();
    for client in [&buyer, &rival, &stranger, &process.client()] {
        let mut watcher = Socket::connect(client).await;
        for ids in lots {
            watcher.sub(&ids.lots[0]).await;
        }
        watchers.push(watcher);
    }

    start(&buyer, &sealed).await;
    bid(&actor, &sealed, SEALED.0).await;
    let many_digits = format!("{}9", REFUSED.0);
    let refused = json!({ "price": many_digits, "confirm": true });
    actor.post(&sealed.lot("/bids"), &refused).await.refused(422, "price_scale");
    let told = socket.ask("bid.place", place(&prebids, json!({ "price": PREBID.0 }))).await;
    assert_eq!(told["ok"]["status"], "accepted", "{told}");
    start(&buyer, &limits).await;
    bid(&rival, &limits, SHOWN.0).await;
    bid(&actor, &limits, "940000000000.00").await;
    let leads = json!({ "price": "930000000000.00", "auto_limit": WITH_BID.0 });
    let told = socket.ask("bid.place", place(&limits, leads)).await;
    assert_eq!(told["ok"]["lead"], true, "{told}");
    actor.put(&limits.lot("/auto-bid"), &json!({ "limit": LIMIT.0 })).await.expect(200);
    actor.put(&dutch.lot("/auto-bid"), &json!({ "limit": DUTCH.0 })).await.expect(200);
    start(&buyer, &dutch).await;
    bid(&actor, &rounds, "970000000000.00").await;
    bid(&rival, &rounds, "960000000000.00").await;
    start(&buyer, &rounds).await;
    bid(&actor, &rounds, DROPPED.0).await;
    let told = socket.ask("bid.place", place(&rounds, json!({ "price": TURN.0 }))).await;
    assert_eq!(told["ok"]["status"], "accepted", "{told}");

    // Its bidder is told; that is how we know that there is something to find.
    for (ids, field, secret) in
        [(&sealed, "standing", &SEALED), (&limits, "auto_limit", &LIMIT), (&dutch, "auto_limit", &DUTCH)]
    {
        assert_eq!(actor.get(&ids.lot("")).await.expect(200)["you"][field], secret.0);
    }
    for (number, watcher) in watchers.iter_mut().enumerate() {
        // Everything up to here has come when this is answered.
        watcher.ask("time", json!({ "t0": 0 })).await;
        clean(&format!("the feed of watcher {number}"), watcher.pushes.concat().as_bytes());
    }
    for client in [&buyer, &rival, &stranger, &process.client()] {
        for ids in lots {
            for path in [
                ids.lot(""),
                ids.lot("/bids"),
                ids.lot("/events?limit=200"),
                ids.lot("/result"),
                ids.tender(""),
                ids.tender("/bidders"),
                ids.tender("/audit"),
                "/v1/tenders".to_owned(),
            ] {
                let answer = client.get(&path).await;
                clean(&path, &answer.body);
                clean(&path, format!("{:?}", answer.headers).as_bytes());
            }
        }
    }

    // Enough of something else for a snapshot.
    for draft in 0..12 {
        let body = json!({ "title": format!("Draft {draft}"), "currency": "SAR", "description": "x".repeat(9_000),
            "lots": [{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 60 } }] });
        create_tender(&buyer, &body).await;
    }
    let metrics = async || process.admin().get("/metrics").await;
    eventually("a snapshot", || async {
        String::from_utf8_lossy(&metrics().await.body)
            .lines()
            .any(|line| line.strip_prefix("rt_snapshots_total ").is_some_and(|count| count.trim() != "0"))
    })
    .await;
    clean("the metrics", &metrics().await.body);
    clean("the program's log", process.said().as_bytes());
    let (files, shown) = clean_folder(&dir.path().join("data"));
    assert!(files > 2 && shown > 1, "log and snapshot hold what is no secret: {shown} of {files}");

    // What was recovered hides it as well.
    process.kill_and_start().await;
    assert_eq!(actor.get(&limits.lot("")).await.expect(200)["you"]["auto_limit"], LIMIT.0);
    for client in [&buyer, &rival, &process.client()] {
        for ids in lots {
            for path in [ids.lot(""), ids.lot("/bids"), ids.lot("/events?limit=200")] {
                clean(&path, &client.get(&path).await.body);
            }
        }
    }
    clean("the program's log", process.said().as_bytes());
    clean_folder(&dir.path().join("data"));
}

/// With everything sealed not even what everybody may see is in a file: no price, no text, no address, no id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_everything_sealed_no_file_tells_of_bids() {
    let dir = tempfile::tempdir().expect("a folder");
    // The database is for people to read, and sealed by nobody.
    let settings = ["--seal", "all", "--snapshot-bytes", "65536", "--database", "none"];
    let mut process = Process::start_with(dir.path(), dir.path(), &settings).await;
    let (buyer, buyer_id) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let rules = json!({ "format": "english", "duration_s": 3600 });
    let ids = lot(&buyer, rules, &[actor_id.as_str()]).await;
    start(&buyer, &ids).await;
    bid(&actor, &ids, SHOWN.0).await;
    for draft in 0..12 {
        let body = json!({ "title": format!("Draft {draft}"), "currency": "SAR", "description": "x".repeat(9_000),
            "lots": [{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 60 } }] });
        create_tender(&buyer, &body).await;
    }
    eventually("a snapshot", || async {
        let metrics = process.admin().get("/metrics").await;
        String::from_utf8_lossy(&metrics.body)
            .lines()
            .any(|line| line.strip_prefix("rt_snapshots_total ").is_some_and(|count| count.trim() != "0"))
    })
    .await;
    process.kill_and_start().await;
    // A restart replays into the journal what it had lost.
    let now = actor.get(&ids.lot("")).await.expect(200);
    assert_eq!(now["you"]["standing"], SHOWN.0, "{now}");
    let audit = actor.get(&ids.tender("/audit")).await.expect(200);
    let units: String = SHOWN.units().to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(audit.to_string().contains(&units), "its bidder's export is made from the sealed journal: {audit}");

    let bytes_of = |id: &str| uuid::Uuid::parse_str(id).expect("an id").as_u128().to_le_bytes();
    let tender = bytes_of(&ids.tender);
    let (buyer, actor) = (bytes_of(&buyer_id), bytes_of(&actor_id));
    let texts = ["Secrets", "Draft 3", "xxxxxxxx", "buyer@example.com", "actor"].map(str::as_bytes);
    let needles: Vec<&[u8]> = texts.into_iter().chain([&tender[..], &buyer[..], &actor[..]]).collect();
    let mut folders = vec![dir.path().join("data")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            assert_eq!(SHOWN.find(&bytes), None, "in {}", path.display());
            for needle in &needles {
                let text = String::from_utf8_lossy(needle);
                assert!(!memchr_all(&bytes, needle), "{text:?} is in {}", path.display());
            }
            files.push(path.extension().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    for kind in ["seg", "snap", "journal", "nodes", "roots"] {
        assert!(files.iter().any(|file| file == kind), "{kind} is among {files:?}");
    }
}
