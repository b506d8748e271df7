//! Why links can't be made. Every text names what is wrong and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why links can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// A file of the node's certificate is missing or can't be read.
    #[error(
        "{path}: {error}. Make it with `reversetender keys node NAME --ca DIR`, with the directory that `reversetender keys ca DIR` made"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not usable: {why}. Make it anew with `reversetender keys node NAME --ca DIR`")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is an authority already: another one would cut the cluster in two.
    #[error("{path} exists: an authority is made once for a cluster. Give another directory for another cluster")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A name that can't stand in a certificate.
    #[error(
        "\"{name}\" is no name for a node: 1 to 63 small letters, digits and hyphens, such as frankfurt-1, with a letter or digit at both ends"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two members have one name or number.
    #[error("\"{name}\" stands for two nodes of the cluster, or for this one: give every node a name of its own")]
    Twice {
        /// The name.
        name: String,
    },
    /// The address can't be listened on.
    #[error("{address} can't be listened on for peers: {error}. Give another --peer-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A certificate could not be made.
    #[error("a certificate can't be made: {0}")]
    Make(String),
    /// The system refused a thread.
    #[error("a thread can't be started: {0}")]
    Thread(#[source] io::Error),
}
