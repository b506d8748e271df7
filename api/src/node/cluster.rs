//! A node among several: who the others are, how replication and links begin, and what is told of them. Orders nothing.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use persistence::peers::{
    Arrival, Hello, Member, PEER_FOLDER, PROTOCOL, PeerOptions, PeerStatus, Peers, cluster_of,
};
use persistence::raft::{GroupStatus, Raft, RaftMember, RaftOptions};
use persistence::{OpenError, Recovered, SCHEMA};

use super::boot::BootError;
use super::core::Shared;

/// A tick of the election clock.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Ticks between two heartbeats of a leader: 100 ms.
const BEAT_TICKS: usize = 5;
/// Ticks without a leader after which the first node stands: 1 s. The others follow, each so much later.
const ELECTION_TICKS: usize = 50;
/// Ticks between the first node's patience and the next one's.
const STAGGER_TICKS: usize = 10;
/// Frames that arrived and wait for the core; then the links wait, and with them the other nodes.
const ARRIVALS: usize = 4_096;
/// The file in the data folder that names this life of it.
const DISK: &str = "disk";
/// The file beside the certificate that names the data folder with which the cluster was begun.
const BEGUN: &str = "begun";

/// How a node takes part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// The name of this node, one of the members.
    pub name: String,
    /// The name of its site.
    pub site: String,
    /// Where it listens for the other nodes.
    pub listen: SocketAddr,
    /// All nodes, this one included, in order of their names.
    pub members: Vec<Member>,
    /// The cluster is a new one: an empty data folder may vote. Never when any node has ever held something.
    pub is_new: bool,
}

impl ClusterOptions {
    /// The cluster that the certificates in `keys` belong to.
    ///
    /// # Errors
    /// [`BootError::Peers`] names the file that is missing or wrong.
    pub fn cluster(&self, keys: &Path) -> Result<u128, BootError> {
        Ok(cluster_of(&keys.join(PEER_FOLDER))?)
    }
}

/// What the core has of the other nodes.
pub struct Links {
    /// Sends to them.
    pub peers: Arc<Peers>,
    /// What they sent.
    pub arrivals: Receiver<Arrival>,
    /// What is told of them.
    pub board: Arc<Board>,
    /// The data folder.
    pub data: PathBuf,
}

/// How the cluster is doing, as the core wrote it down last. Looked at by whoever asks.
pub struct Board {
    /// This node's options.
    pub options: ClusterOptions,
    /// The cluster.
    pub cluster: u128,
    /// This node's number.
    pub node: u16,
    peers: Arc<Peers>,
    groups: Mutex<Groups>,
}

/// How far this node's wall clock is ahead of the median of all, in milliseconds; `ahead` is what the others' are ahead of
/// it, of those that are linked. None with fewer than two: two clocks can't tell which one is wrong.
pub(super) fn off_by(ahead: &[i64]) -> Option<i64> {
    if ahead.len() < 2 {
        return None;
    }
    let mut all: Vec<i64> = ahead.iter().copied().chain([0]).collect();
    all.sort_unstable();
    let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
    Some(-(low + (high - low) / 2))
}

#[derive(Default)]
struct Groups {
    status: Vec<GroupStatus>,
    /// Since when a follower has been behind what is committed, by shard and node.
    behind: BTreeMap<(u16, u16), Instant>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Board {
    /// Writes down how the groups of all shards are doing.
    pub fn update(&self, status: Vec<GroupStatus>) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut behind = BTreeMap::new();
        for (shard, group) in (0u16..).zip(&status) {
            for (node, matched, _) in &group.followers {
                if *matched < group.committed {
                    let since = groups.behind.get(&(shard, *node)).copied().unwrap_or(now);
                    behind.insert((shard, *node), since);
                }
            }
        }
        *groups = Groups { status, behind };
    }

    /// The groups by shard; and for how long each follower has been behind, by shard and node.
    pub fn groups(&self) -> (Vec<GroupStatus>, BTreeMap<(u16, u16), Duration>) {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = groups.behind.iter().map(|(key, since)| (*key, since.elapsed())).collect();
        (groups.status.clone(), behind)
    }

    /// How the links to the others are doing.
    pub fn links(&self) -> Vec<PeerStatus> {
        self.peers.status()
    }

    /// How far this node's clock is ahead of the median of all, in milliseconds, where enough are linked to tell.
    pub(super) fn clock_off_by(&self) -> Option<i64> {
        let links = self.links();
        let ahead = links.iter().filter(|link| link.receiving).filter_map(|link| link.ahead_ms);
        off_by(&ahead.collect::<Vec<_>>())
    }

    /// The name of a node.
    pub fn name_of(&self, node: u16) -> &str {
        let member = self.options.members.iter().find(|member| member.node == node);
        member.map_or("?", |member| &member.name)
    }
}

/// Begins replication and links of a node whose log held `recovered`.
pub(super) fn join(
    options: &ClusterOptions,
    (data, keys): (&Path, &Path),
    recovered: &Recovered,
    shared: &Arc<Shared>,
) -> Result<(Raft, Links), BootError> {
    let own = options.members.iter().position(|member| member.name == options.name);
    let rank = own.expect("the configuration has this node among the members");
    let node = options.members[rank].node;
    let (disk, made) = disk_of(data).map_err(|error| OpenError::Disk { path: data.join(DISK), error })?;
    let holds = recovered.last.iter().any(|last| last.index > 0) || recovered.votes.iter().any(Option::is_some);
    if options.is_new {
        begin_once(&keys.join(PEER_FOLDER), disk)?;
    }
    let shards = recovered.last.len() as u16;
    let names: Vec<&str> = options.members.iter().map(|member| member.name.as_str()).collect();
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: recovered.cluster,
        history: recovered.history.0,
        node,
        name: options.name.clone(),
        site: options.site.clone(),
        witness: false,
        shards,
        disk,
        reads: (1, SCHEMA),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings: vec![("members".to_owned(), names.join(","))],
    };
    let member = |member: &Member| RaftMember { node: member.node, site: 1, witness: false };
    let count = options.members.len() as u16;
    let raft = RaftOptions {
        node,
        disk,
        members: options.members.iter().map(member).collect(),
        bootstrap: options.is_new,
        // Copied from somewhere, without its number.
        doubtful: made && holds,
        both: false,
        fall_back_ticks: 0,
        beat_ticks: BEAT_TICKS,
        election_ticks: ELECTION_TICKS,
        own_election_ticks: ELECTION_TICKS + rank * STAGGER_TICKS,
        preferred: (0..shards).map(|shard| options.members[usize::from(shard % count)].node).collect(),
    };
    let raft = Raft::new(raft, recovered.shard_logs()?);
    let (arrived, arrivals) = bounded(ARRIVALS);
    let others = options.members.iter().filter(|member| member.node != node).cloned().collect();
    let links = PeerOptions { hello, listen: options.listen, members: others, folder: keys.join(PEER_FOLDER) };
    let waking = Arc::clone(shared);
    let peers = Arc::new(Peers::start(links, arrived, move || waking.core.wake())?);
    let board = Board {
        options: options.clone(),
        cluster: recovered.cluster,
        node,
        peers: Arc::clone(&peers),
        groups: Mutex::default(),
    };
    Ok((raft, Links { peers, arrivals, board: Arc::new(board), data: data.to_owned() }))
}

/// Lets an empty data folder vote once for these keys: a second one has forgotten what the first promised.
fn begin_once(folder: &Path, disk: u64) -> Result<(), BootError> {
    let path = folder.join(BEGUN);
    let text = format!("{disk:016x}\n");
    match std::fs::read_to_string(&path) {
        Ok(known) if known == text => Ok(()),
        Ok(_) => Err(BootError::BegunBefore { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_new(folder, BEGUN, &text).map_err(|error| OpenError::Disk { path, error }.into())
        }
        Err(error) => Err(OpenError::Disk { path, error }.into()),
    }
}

/// Writes a file that is whole and durable, or not there.
fn write_new(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = folder.join(format!("{name}.new"));
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, folder.join(name))?;
    std::fs::File::open(folder)?.sync_all()
}

/// The number that names this life of a data folder, made with it so that an empty one counts for nothing that another
/// one promised; and whether it was made now.
fn disk_of(data: &Path) -> io::Result<(u64, bool)> {
    let path = data.join(DISK);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let number = u64::from_str_radix(text.trim(), 16);
            let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "it should hold one hexadecimal number");
            number.map(|disk| (disk, false)).map_err(wrong)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 8];
            persistence::system_random(&mut bytes);
            let disk = u64::from_le_bytes(bytes);
            write_new(data, DISK, &format!("{disk:016x}\n"))?;
            Ok((disk, true))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_keeps_its_number_and_another_one_has_another() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (first, made) = disk_of(one.path()).expect("made");
        assert!(made);
        assert_eq!(disk_of(one.path()).expect("read"), (first, false));
        assert_ne!(disk_of(two.path()).expect("made").0, first);
        std::fs::write(one.path().join(DISK), "none").expect("written");
        assert!(disk_of(one.path()).is_err(), "a number that is lost is not made up");
    }

    #[test]
    fn a_clock_is_judged_by_the_median_of_at_least_three() {
        assert_eq!(off_by(&[]), None);
        assert_eq!(off_by(&[3_600_000]), None, "of two nobody knows which one is wrong");
        assert_eq!(off_by(&[3_600_000, 10]), Some(-10), "it is the other's");
        assert_eq!(off_by(&[-3_600_000, -3_600_010]), Some(3_600_000));
        assert_eq!(off_by(&[501, 502]), Some(-501));
        assert_eq!(off_by(&[2_000, 2_000, 0]), Some(-1_000), "the middle of two");
    }

    #[test]
    fn a_cluster_is_begun_with_one_data_folder() {
        let keys = tempfile::tempdir().expect("a folder");
        begin_once(keys.path(), 7).expect("the first");
        begin_once(keys.path(), 7).expect("the same again");
        let error = begin_once(keys.path(), 8).expect_err("another").to_string();
        assert!(error.contains("begun") && error.contains("--cluster-state existing"), "{error}");
    }
}
