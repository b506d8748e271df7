//! Links between nodes as they are: real certificates, real sockets on loopback, and strangers who try to get in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, unbounded};
use persistence::peers::{
    Arrival, Authority, FRAME_MAX, Frame, FrameKind, Hello, Member, PROTOCOL, PeerOptions, Peers, PeersError,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
    addresses: Vec<SocketAddr>,
}

struct Node {
    peers: Peers,
    arrived: Receiver<Arrival>,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create(&folder.path().join("authority")).expect("new");
        // Held until all are known, so that no two are the same.
        let listeners: Vec<TcpListener> =
            (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
        let addresses = listeners.iter().map(|each| each.local_addr().expect("bound")).collect();
        Self { folder, authority, addresses }
    }

    fn keys(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("keys-{node}"))
    }

    fn name(node: usize) -> String {
        format!("node-{node}")
    }

    fn hello(&self, node: usize) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.authority.cluster(),
            history: 1,
            node: node as u16 + 1,
            name: Self::name(node),
            site: "here".into(),
            witness: false,
            shards: 9,
            disk: 77,
            reads: (1, persistence::SCHEMA),
            version: "test".into(),
            settings: vec![("durability".into(), "majority".into())],
        }
    }

    fn options(&self, node: usize) -> PeerOptions {
        let members = (0..self.addresses.len()).filter(|other| *other != node).map(|other| Member {
            name: Self::name(other),
            node: other as u16 + 1,
            address: self.addresses[other].to_string(),
        });
        PeerOptions {
            hello: self.hello(node),
            listen: self.addresses[node],
            members: members.collect(),
            folder: self.keys(node),
        }
    }

    fn start(&self, node: usize) -> Node {
        self.authority.issue(&Self::name(node), &self.keys(node)).expect("a good name");
        self.start_as(self.options(node))
    }

    fn start_as(&self, options: PeerOptions) -> Node {
        let (tell, arrived) = unbounded();
        let peers = Peers::start(options, tell, || {}).expect("a node starts");
        Node { peers, arrived }
    }
}

impl Node {
    fn next(&self) -> Arrival {
        self.arrived.recv_timeout(PATIENCE).expect("something arrives")
    }

    fn next_frame(&self) -> (u16, Frame) {
        loop {
            if let Arrival::Frame { from, frame } = self.next() {
                return (from, frame);
            }
        }
    }

    fn connected(&self, node: u16) {
        until("a link", || {
            self.peers.status().iter().any(|peer| peer.member.node == node && peer.sending && peer.receiving)
        });
    }

    fn trouble(&self, part: &str) {
        until(part, || {
            let status = self.peers.status();
            status.iter().any(|peer| peer.trouble.as_ref().is_some_and(|trouble| trouble.contains(part)))
        });
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn frame(shard: u16, bytes: Vec<u8>) -> Frame {
    Frame { kind: FrameKind::Raft, shard, bytes }
}

#[test]
fn frames_arrive_once_in_order_and_both_sides_know_each_other() {
    let cluster = Cluster::new(3);
    let nodes: Vec<Node> = (0..3).map(|node| cluster.start(node)).collect();
    for (node, others) in [(0, [2, 3]), (1, [1, 3]), (2, [1, 2])] {
        others.iter().for_each(|other| nodes[node].connected(*other));
    }
    for number in 0..2_000_u32 {
        assert!(nodes[0].peers.send(2, frame(3, number.to_le_bytes().to_vec())));
        assert!(nodes[2].peers.send(2, frame(4, number.to_le_bytes().to_vec())));
    }
    let large = vec![7; FRAME_MAX];
    assert!(nodes[0].peers.send(2, frame(5, large.clone())));
    let mut next = [0_u32; 2];
    let mut large_came = false;
    while next != [2_000, 2_000] || !large_came {
        let (from, frame) = nodes[1].next_frame();
        match frame.shard {
            5 => {
                assert!(frame.bytes == large && next[0] == 2_000, "behind what was sent before it");
                large_came = true;
            }
            shard => {
                let place = usize::from(shard == 4);
                assert_eq!(from, [1, 3][place]);
                assert_eq!(frame.bytes, next[place].to_le_bytes());
                next[place] += 1;
            }
        }
    }
    until("a trip", || nodes[0].peers.status().iter().all(|peer| peer.trip_ns.is_some()));
    for peer in nodes[0].peers.status() {
        assert!(peer.ahead_ms.expect("measured").abs() < 2_000, "one machine has one wall clock");
        let hello = peer.hello.expect("it said who it is");
        assert_eq!((hello.node, hello.name), (peer.member.node, peer.member.name));
    }
    assert!(!nodes[0].peers.send(9, frame(0, Vec::new())), "nobody's number");
}

#[test]
fn a_peer_that_went_away_is_told_of_and_dialled_again() {
    let cluster = Cluster::new(2);
    let stays = cluster.start(0);
    assert!(!stays.peers.send(2, frame(0, vec![1])), "nobody is there");
    for _ in 0..3 {
        let goes = cluster.start(1);
        stays.connected(2);
        goes.connected(1);
        assert!(stays.peers.send(2, frame(0, vec![2])));
        assert_eq!(goes.next_frame(), (1, frame(0, vec![2])), "nothing of an earlier life comes late");
        drop(goes);
        until("the loss", || !stays.peers.status()[0].sending && !stays.peers.status()[0].receiving);
        assert!(!stays.peers.send(2, frame(0, vec![3])));
    }
    let told: Vec<bool> = stays
        .arrived
        .try_iter()
        .filter_map(|arrival| match arrival {
            Arrival::Connected { .. } => Some(true),
            Arrival::Lost { .. } => Some(false),
            Arrival::Frame { .. } => None,
        })
        .collect();
    assert_eq!(told, [true, false, true, false, true, false]);
    assert!(stays.peers.status()[0].dropped >= 4);
}

#[test]
fn what_a_slow_peer_does_not_take_is_dropped_and_nobody_waits() {
    let cluster = Cluster::new(2);
    let sender = cluster.start(0);
    cluster.authority.issue(&Cluster::name(1), &cluster.keys(1)).expect("a good name");
    // Nobody reads what arrives here, and little has room.
    let (tell, arrived) = crossbeam::channel::bounded(1);
    let slow = Peers::start(cluster.options(1), tell, || {}).expect("a node starts");
    sender.connected(2);
    let mut sent = 0;
    let mut dropped = 0;
    for number in 0..400_u32 {
        let mut bytes = vec![0; 1 << 20];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        if sender.peers.send(2, frame(0, bytes)) { sent += 1 } else { dropped += 1 }
    }
    assert!(dropped > 0 && sent >= 64, "{sent} sent, {dropped} dropped");
    let mut last = None;
    for _ in 0..sent {
        let Ok(Arrival::Frame { frame, .. }) = arrived.recv_timeout(PATIENCE) else { continue };
        let number = u32::from_le_bytes(frame.bytes[..4].try_into().expect("four"));
        assert!(last.is_none_or(|last| number > last), "in order");
        last = Some(number);
    }
    assert!(last.is_some());
    drop(slow);
}

#[test]
fn nobody_without_a_certificate_of_the_cluster_gets_in() {
    let cluster = Cluster::new(2);
    let node = cluster.start(0);

    // Another authority's node under the same name, number and cluster.
    let stranger = Authority::create(&cluster.folder.path().join("stranger")).expect("new");
    let keys = cluster.folder.path().join("stranger-keys");
    stranger.issue(&Cluster::name(1), &keys).expect("a good name");
    std::fs::write(keys.join("cluster"), std::fs::read(cluster.keys(0).join("cluster")).expect("there"))
        .expect("written");
    let options = PeerOptions { folder: keys.clone(), ..cluster.options(1) };
    let refused = Peers::start(options, unbounded().0, || {}).expect_err("the names differ already").to_string();
    assert!(refused.contains("node.pem") && refused.contains("keys node"), "{refused}");
    let mut hello = cluster.hello(1);
    hello.cluster = stranger.cluster();
    let other = cluster.start_as(PeerOptions { hello, folder: keys, ..cluster.options(1) });
    other.trouble("handshake failed");
    node.trouble("handshake failed");
    drop(other);

    // A member that says it is another member.
    cluster.authority.issue("node-7", &cluster.keys(7)).expect("a good name");
    let mut hello = cluster.hello(1);
    hello.name = "node-7".into();
    let posing = cluster.start_as(PeerOptions { hello, folder: cluster.keys(7), ..cluster.options(1) });
    posing.trouble("no member is");
    assert!(
        node.arrived
            .try_iter()
            .all(|arrival| !matches!(arrival, Arrival::Frame { .. } | Arrival::Connected { .. }))
    );
    drop(posing);

    // No TLS at all, half of it, and silence.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[]] {
        let mut stream = TcpStream::connect(node.peers.listen()).expect("it listens");
        stream.write_all(bytes).expect("sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut answer = Vec::new();
        // An alert or nothing, then the end; never patience without end.
        stream.read_to_end(&mut answer).ok();
        assert!(answer.len() < 64, "{answer:?}");
    }
    let right = cluster.start(1);
    node.connected(1 + 1);
    right.connected(1);
}

#[test]
fn nodes_that_do_not_go_together_say_why() {
    let cluster = Cluster::new(2);
    let node = cluster.start(0);
    cluster.authority.issue(&Cluster::name(1), &cluster.keys(1)).expect("a good name");
    type Change = fn(&mut Hello);
    let differences: [(Change, &str); 4] = [
        (|hello| hello.history = 2, "restored or promoted"),
        (|hello| hello.shards = 5, "4 shards"),
        (|hello| hello.settings[0].1 = "both".into(), "`durability` is both"),
        (|hello| hello.reads = (9, 9), "schema 9 to 9"),
    ];
    for (change, part) in differences {
        let mut hello = cluster.hello(1);
        change(&mut hello);
        let other = cluster.start_as(PeerOptions { hello, ..cluster.options(1) });
        other.trouble("refuses this node");
        other.trouble(part);
        assert!(!node.peers.send(2, frame(0, vec![1])));
    }
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart() {
    let cluster = Cluster::new(2);
    let node = cluster.start(0);
    let other = cluster.start(1);
    node.connected(2);
    let before = std::fs::read(cluster.keys(0).join("node.pem")).expect("there");
    cluster.authority.issue(&Cluster::name(0), &cluster.keys(0)).expect("renewed");
    assert_ne!(before, std::fs::read(cluster.keys(0).join("node.pem")).expect("there"));
    drop(other);
    let _other = cluster.start(1);
    until("the new link", || node.peers.status()[0].sending);
    node.connected(2);
}

#[test]
fn missing_files_are_named_with_what_makes_them() {
    let cluster = Cluster::new(1);
    let start = |keys: &Path| {
        let options = PeerOptions { folder: keys.into(), ..cluster.options(0) };
        Peers::start(options, unbounded().0, || {}).map(drop)
    };
    let keys = cluster.keys(0);
    let text = start(&keys).expect_err("nothing is there").to_string();
    assert!(text.contains("ca.pem") && text.contains("reversetender keys node"), "{text}");
    cluster.authority.issue(&Cluster::name(0), &keys).expect("a good name");
    start(&keys).expect("all is there");
    for file in ["ca.pem", "node.pem", "node.key"] {
        let kept = std::fs::read(keys.join(file)).expect("there");
        std::fs::write(keys.join(file), b"rubbish").expect("written");
        let error = start(&keys).expect_err("unusable");
        assert!(matches!(&error, PeersError::Unusable { path, .. } if path.ends_with(file)), "{error}");
        std::fs::write(keys.join(file), kept).expect("written");
    }
    let mut options = cluster.options(0);
    options.members.push(Member { name: "again".into(), node: 1, address: "127.0.0.1:1".into() });
    assert!(matches!(Peers::start(options, unbounded().0, || {}), Err(PeersError::Twice { .. })));
}
