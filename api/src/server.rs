//! A running server: node, API, feed, page and admin listener, started and stopped as one. `serve`, `demo` and the
//! tests all start this.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use axum::Router;
use engine::{AccountAction, Action, Command, Envelope, RequestId};
use persistence::peers::{PEER_FOLDER, secret_of};
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

use crate::config::{Config, Limits};
use crate::feed::{self, Feed, FeedOptions, Hub};
use crate::limits::RateLimits;
use crate::node::{Node, NodeOptions};
use crate::rest::passwords::Passwords;
use crate::rest::serve;
use crate::rest::tokens::Tokens;
use crate::rest::{self, App};
use crate::{admin, web};

/// How long clients may take to leave once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How often a node of a cluster tries to announce its key.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
/// Fewer connections than this are told at the start.
const FEW_CONNECTIONS: usize = 1_024;
/// Connections to the admin listener.
const ADMIN_CONNECTIONS: usize = 32;
/// How often old samples of histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    app: Arc<App>,
    feed: Feed,
    address: SocketAddr,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
    stop_admin: watch::Sender<bool>,
    admin_listener: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Server {
    /// Recovers the node's state and serves it. With port 0 in the configuration the system chooses one.
    ///
    /// # Errors
    /// Says what could not be opened, and why.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let metrics = admin::metrics();
        // Before the log is opened: a second process finds out early and harms nothing.
        let listener = bind(config.listen, "--listen").await?;
        let admin_listener = bind(config.admin_listen, "--admin-listen").await?;
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);

        let hub = Hub::new();
        let node = start_node(config, hub.clone()).await?;
        let app = Arc::new(build_app(config, node)?);
        if app.node.board().is_some() {
            // There may be no leader yet: others are about to start as well.
            tokio::spawn(announce_when_possible(Arc::clone(&app)));
        } else {
            announce_key(&app).await?;
        }
        let options = FeedOptions {
            limits: if config.limits == Limits::Off { feed::Limits::OFF } else { feed::Limits::default() },
            origins: config.public_url.iter().cloned().collect(),
            ..FeedOptions::default()
        };
        let feed = Feed::new(Arc::clone(&app), hub, options);

        let (stop, stopped) = watch::channel(false);
        let proxies = app.trusted_proxies.clone().into();
        let mut limits = serve::Limits { drain: DRAIN, proxies, ..serve::Limits::default() };
        limits.connections = limits.connections.min(room_for_connections(config.shards));
        if config.limits == Limits::Off {
            limits.per_address = None;
        }
        let router = Router::new()
            .merge(feed::router(feed.clone()))
            .merge(rest::router(Arc::clone(&app)))
            .merge(web::routes())
            .fallback(rest::not_found);
        let admin_router = admin::router(Arc::clone(&app));
        let listener = tokio::spawn(serve::run(listener, router, limits.clone(), stopped));
        let (stop_admin, stopped_admin) = watch::channel(false);
        limits.connections = limits.connections.min(ADMIN_CONNECTIONS);
        let admin_listener = tokio::spawn(serve::run(admin_listener, admin_router, limits, stopped_admin));
        let upkeep = tokio::spawn(async move {
            let mut turns = tokio::time::interval(UPKEEP);
            loop {
                turns.tick().await;
                metrics.run_upkeep();
            }
        });
        tracing::info!(%address, %admin_address, data = %config.data.display(), node = config.node, "Serving");
        Ok(Self { app, feed, address, admin_address, stop, listener, stop_admin, admin_listener, upkeep })
    }

    /// What every request needs.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.app.node
    }

    /// Where API, feed and page are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Stops: takes no more connections and commands, lets requests and sockets end, and then the node. Returns when
    /// everything that was taken is answered and the log is closed.
    pub async fn stop(self) {
        tracing::info!("Draining");
        // The admin listener answers to the end: «not ready» is what tells a balancer to look elsewhere.
        self.app.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        self.feed.drain(DRAIN).await;
        ended("the listener", self.listener.await);
        let node = self.app.node.clone();
        ended("the node", tokio::task::spawn_blocking(move || node.stop()).await);
        self.stop_admin.send_replace(true);
        ended("the admin listener", self.admin_listener.await);
        self.upkeep.abort();
        tracing::info!("Stopped");
    }
}

fn ended(what: &str, result: Result<(), JoinError>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} ended badly");
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: cannot listen there"))
}

async fn start_node(config: &Config, hub: Hub) -> anyhow::Result<Node> {
    let archive = config.archive.as_ref().map(|place| place.open().context("--archive")).transpose()?;
    let options = NodeOptions {
        archive,
        scrub: config.scrub(),
        database: config.database.clone(),
        data: config.data.clone(),
        keys: config.keys.clone(),
        shards: config.shards,
        segment_bytes: config.segment_bytes,
        snapshot_bytes: config.snapshot_bytes,
        node: config.node_number(),
        cluster: config.cluster.clone(),
        seal: config.seal,
        master: crate::config::master_key(),
        verifier: Some(std::env::current_exe().context("the program does not know its own path")?),
    };
    // Recovery reads files and may take long.
    tokio::task::spawn_blocking(move || Node::start(&options, &hub)).await?.context("the node cannot start")
}

fn build_app(config: &Config, node: Node) -> anyhow::Result<App> {
    let pkcs8 = node.keys().token_key().context("the key that signs tokens cannot be read")?;
    let issuer = config.public_url.as_deref().unwrap_or("reversetender");
    let tokens = Tokens::new(&pkcs8, issuer).context("the key that signs tokens is no Ed25519 key")?;
    // A request may be repeated at any node, and what is derived for it must be the same there.
    let master = match &config.cluster {
        Some(_) => secret_of(&config.keys.join(PEER_FOLDER))?,
        None => node.keys().derive("rest", 0),
    };
    let master = hmac::Key::new(hmac::HMAC_SHA256, &master);
    let hashes = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(App {
        node,
        tokens,
        passwords: Passwords::new(hashes),
        master,
        limits: if config.limits == Limits::Off { RateLimits::off() } else { RateLimits::new() },
        trusted_proxies: config.trusted_proxies.iter().map(|address| address.to_canonical()).collect(),
        stopping: AtomicBool::new(false),
    })
}

/// How many connections there may be so that, of the files that this process may open, enough are left for log, snapshots,
/// audit, archive and projection: none of them waits for a client to go.
fn room_for_connections(shards: u16) -> usize {
    let most =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let own = 64 + 4 * usize::from(shards);
    let room = most.saturating_sub(own).max(most / 4);
    if room < FEW_CONNECTIONS {
        tracing::warn!(
            "This process may open {most} files, so only {room} connections are taken at once. Raise the limit of open files \
             (LimitNOFILE, ulimit -n)"
        );
    }
    room
}

/// [`announce_key`], until it is done.
async fn announce_when_possible(app: Arc<App>) {
    while !app.stopping.load(Ordering::Relaxed) {
        if announce_key(&app).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(ANNOUNCE_AGAIN).await;
    }
}

/// Puts this node's public key into the log, unless it is there, so that every node takes its tokens. Whether it is there
/// now.
async fn announce_key(app: &App) -> anyhow::Result<bool> {
    let kid = app.tokens.kid();
    let view = app.node.read().await.map_err(|_| anyhow::anyhow!("the node does not answer"))?;
    if view.accounts(|accounts| accounts.keys().iter().any(|key| key.kid == kid)) {
        return Ok(true);
    }
    let envelope = Envelope { request: RequestId(Uuid::now_v7().as_u128()), ..Envelope::default() };
    let action = Action::Account(AccountAction::AnnounceKey { kid: kid.to_owned(), public: app.tokens.public() });
    let submitted = app.node.submit(app.node.stamp(), Command { envelope, action, secret: None }).await;
    if let Err(error) = &submitted {
        // Without room in the log the node still reads; its own tokens are good here all the same.
        tracing::warn!(%error, "The public key that signs tokens could not be announced");
    }
    Ok(submitted.is_ok())
}
