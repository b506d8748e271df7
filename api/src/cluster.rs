//! How the cluster is doing, for operators: `GET /admin/cluster` on the admin listener, and the command that prints it.
//! Looks and changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use persistence::{HistoryId, Lead};
use serde::{Deserialize, Serialize};

use crate::node::{Board, Node};

/// How long the node is given to answer the command.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster as one node sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node that says so.
    pub node: String,
    /// The cluster.
    pub cluster: String,
    /// All nodes, by name.
    pub members: Vec<MemberStatus>,
    /// All shards, by number; shard 0 holds the accounts.
    pub shards: Vec<ShardStatus>,
}

/// A node of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// How many shards it leads.
    pub leads: usize,
    /// The link to it; none for the node that says so.
    pub link: Option<LinkStatus>,
}

/// A link to another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The site it named.
    pub site: Option<String>,
    /// Whether it can be sent to.
    pub sending: bool,
    /// Whether it can send.
    pub receiving: bool,
    /// There and back, in milliseconds.
    pub trip_ms: Option<f64>,
    /// What its wall clock is ahead, in milliseconds.
    pub ahead_ms: Option<i64>,
    /// Frames that were dropped since the start.
    pub dropped: u64,
    /// Why it can't be reached, if it can't.
    pub trouble: Option<String>,
}

/// A shard.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u16,
    /// Its term.
    pub term: u64,
    /// Who leads it; none: nobody, or it is not known.
    pub leader: Option<String>,
    /// The last entry that is known to be committed.
    pub committed: u64,
    /// The last entry in this node's log.
    pub last: u64,
    /// The last entry that this node has applied.
    pub applied: u64,
    /// Whether this node's disk counts: not until an empty or damaged one has caught up.
    pub counts: bool,
    /// Whose snapshot this node needs, because the others no longer keep the entries it lacks.
    pub needs_snapshot_of: Option<String>,
    /// The others, where this node leads.
    pub followers: Vec<FollowerStatus>,
    /// SHA-256 over the state of the view, in hexadecimal digits, and the entry it is of; when asked for by `?state`.
    pub state: Option<(u64, String)>,
}

/// Another node's copy of a shard.
#[derive(Debug, Serialize, Deserialize)]
pub struct FollowerStatus {
    /// The node.
    pub name: String,
    /// Committed entries that it has not said it holds.
    pub lag_entries: u64,
    /// For how long it has been behind, in milliseconds.
    pub lag_ms: u64,
    /// Whether it was heard lately.
    pub heard: bool,
}

/// The cluster as `node` sees it, with the hashes of all states if asked; none for a node alone.
pub fn look(node: &Node, state: bool) -> Option<Status> {
    let board = node.board()?;
    let (groups, behind) = board.groups();
    let (links, applied) = (board.links(), node.applied());
    let states = if state { node.state_hashes() } else { Vec::new() };
    let leader = |lead: Lead| match lead {
        Lead::Me => Some(board.node),
        Lead::Other(other) => Some(other),
        Lead::Nobody => None,
    };
    let named = |number: u16| board.name_of(number).to_owned();
    let member = |member: &persistence::peers::Member| MemberStatus {
        name: member.name.clone(),
        address: member.address.clone(),
        leads: groups.iter().filter(|group| leader(group.lead) == Some(member.node)).count(),
        link: links.iter().find(|link| link.member.node == member.node).map(|link| LinkStatus {
            site: link.hello.as_ref().map(|hello| hello.site.clone()),
            sending: link.sending,
            receiving: link.receiving,
            trip_ms: link.trip_ns.map(|trip| trip as f64 / 1e6),
            ahead_ms: link.ahead_ms,
            dropped: link.dropped,
            trouble: link.trouble.clone(),
        }),
    };
    let shards = (0u16..).zip(&groups).map(|(shard, group)| ShardStatus {
        shard,
        term: group.term,
        leader: leader(group.lead).map(named),
        committed: group.committed,
        last: group.last,
        applied: applied[usize::from(shard)],
        counts: group.joined,
        needs_snapshot_of: group.wanted.map(|(of, _)| named(of)),
        followers: followers(board, group, |number| behind.get(&(shard, number)).copied()),
        state: states.get(usize::from(shard)).map(|(index, hash)| (*index, persistence::checkpoint::hex(hash))),
    });
    Some(Status {
        node: board.options.name.clone(),
        cluster: HistoryId(board.cluster).to_string(),
        members: board.options.members.iter().map(member).collect(),
        shards: shards.collect(),
    })
}

fn followers(
    board: &Board,
    group: &persistence::raft::GroupStatus,
    behind: impl Fn(u16) -> Option<Duration>,
) -> Vec<FollowerStatus> {
    let follower = |(node, matched, heard): &(u16, u64, bool)| FollowerStatus {
        name: board.name_of(*node).to_owned(),
        lag_entries: group.committed.saturating_sub(*matched),
        lag_ms: behind(*node).map_or(0, |behind| behind.as_millis() as u64),
        heard: *heard,
    };
    group.followers.iter().map(follower).collect()
}

/// Prints how the cluster is doing, as the node behind the admin listener sees it.
///
/// # Errors
/// The node does not answer, or is none of a cluster.
pub fn status(admin: SocketAddr) -> anyhow::Result<ExitCode> {
    let status =
        ask(admin).with_context(|| format!("no answer of a node of a cluster on --admin-listen {admin}"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "cluster {}, as node {} sees it", status.cluster, status.node)?;
    for MemberStatus { name, address, leads, link } in &status.members {
        let link = match link {
            None => "this node".to_owned(),
            Some(link) if link.sending && link.receiving => {
                let trip = link.trip_ms.map_or_else(String::new, |trip| format!(", {trip:.1} ms there and back"));
                let ahead = link.ahead_ms.filter(|ahead| ahead.abs() > 100);
                let ahead = ahead.map_or_else(String::new, |ahead| format!(", its clock is {ahead} ms ahead"));
                format!("linked{trip}{ahead}")
            }
            Some(link) => {
                let why = link.trouble.as_deref().unwrap_or("one direction does not work");
                format!("not linked: {why}")
            }
        };
        writeln!(out, "node {name} at {address}: leads {leads} shards, {link}")?;
    }
    let mut whole = true;
    for shard in &status.shards {
        whole &= shard.leader.is_some();
        let leader = shard.leader.as_deref().unwrap_or("NOBODY");
        let behind = shard.followers.iter().filter(|follower| follower.lag_entries > 0 || !follower.heard);
        let behind: String = behind
            .map(|FollowerStatus { name, lag_entries, lag_ms, heard }| {
                let heard = if *heard { "" } else { ", not heard" };
                format!("; {name} is {lag_entries} entries, {lag_ms} ms behind{heard}")
            })
            .collect();
        let doubt = if shard.counts { "" } else { "; this node's disk does not count yet" };
        let needs = shard.needs_snapshot_of.iter().map(|of| format!("; this node needs a snapshot of {of}"));
        writeln!(
            out,
            "shard {}: led by {leader} in term {}, {} entries committed, {} applied here{behind}{doubt}{}",
            shard.shard,
            shard.term,
            shard.committed,
            shard.applied,
            needs.collect::<String>()
        )?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One request by HTTP/1.0: the node closes the connection behind its answer.
fn ask(admin: SocketAddr) -> anyhow::Result<Status> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /admin/cluster HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is cut off")?;
    let good = head.split_whitespace().nth(1) == Some("200");
    anyhow::ensure!(good, "{}", head.lines().next().unwrap_or_default());
    Ok(serde_json::from_str(body)?)
}
