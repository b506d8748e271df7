//! The cluster's own small certificate authority: made once by the operator, issues one certificate a node.
//!
//! Its key belongs to no node; whoever has it can add a node. A certificate names the node and the cluster
//! (`NAME.CLUSTER.reversetender.internal`), so one cluster's node is nobody in another.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::PeersError;
use crate::{HistoryId, system_random};

/// Folder of a node's certificate inside its keys folder.
pub const PEER_FOLDER: &str = "peer";
pub(super) const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
pub(super) const NODE_CERTIFICATE: &str = "node.pem";
pub(super) const NODE_KEY: &str = "node.key";
const CLUSTER: &str = "cluster";
const SECRET: &str = "secret";
/// Years an authority's and a node's certificate are good for.
const AUTHORITY_YEARS: i32 = 30;
const NODE_YEARS: i32 = 10;

/// Whether a name can stand in a certificate: a DNS label of small letters, digits and hyphens.
pub fn is_node_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
        && [bytes.first(), bytes.last()].into_iter().flatten().all(|byte| letter(*byte))
}

/// What a node's certificate says.
pub(super) fn subject(name: &str, cluster: u128) -> String {
    format!("{name}.{cluster:032x}.reversetender.internal")
}

/// The cluster that a folder's certificates are of.
///
/// # Errors
/// [`PeersError`] names the file.
pub fn cluster_of(folder: &Path) -> Result<u128, PeersError> {
    let path = folder.join(CLUSTER);
    let text = fs::read_to_string(&path).map_err(|error| PeersError::File { path: path.clone(), error })?;
    let parsed: Result<HistoryId, _> = text.trim().parse();
    parsed
        .map(|id| id.0)
        .map_err(|_| PeersError::Unusable { path, why: "it should hold the id of the cluster, a UUID".into() })
}

/// What all nodes of the cluster of a folder know and nobody else: 32 bytes.
///
/// # Errors
/// [`PeersError`] names the file.
pub fn secret_of(folder: &Path) -> Result<[u8; 32], PeersError> {
    let path = folder.join(SECRET);
    let text = fs::read_to_string(&path).map_err(|error| PeersError::File { path: path.clone(), error })?;
    let text = text.trim();
    let byte = |place: usize| text.get(2 * place..2 * place + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes
        .filter(|_| text.len() == 64)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| PeersError::Unusable { path, why: "it should hold 64 hexadecimal digits".into() })
}

/// An authority in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    cluster: u128,
    key: KeyPair,
}

impl Authority {
    /// Makes the authority of a new cluster in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`PeersError::Exists`] when there is one already; otherwise what the disk says.
    pub fn create(folder: &Path) -> Result<Self, PeersError> {
        fs::create_dir_all(folder).map_err(|error| PeersError::File { path: folder.into(), error })?;
        let path = folder.join(CA_KEY);
        if path.exists() {
            return Err(PeersError::Exists { path });
        }
        let mut random = [0; 16];
        system_random(&mut random);
        let cluster = crate::folder::uuid_v4(random);
        let key = KeyPair::generate().map_err(make)?;
        let authority = Self { folder: folder.into(), cluster, key };
        let certificate = authority.params().self_signed(&authority.key).map_err(make)?;
        authority.write_new(folder, CLUSTER, &format!("{}\n", HistoryId(cluster)))?;
        authority.write_new(folder, CA_CERTIFICATE, &certificate.pem())?;
        // Last: with it the authority is there.
        authority.write_new(folder, CA_KEY, &authority.key.serialize_pem())?;
        Ok(authority)
    }

    /// The authority that was made in `folder`.
    ///
    /// # Errors
    /// [`PeersError`] names the file.
    pub fn open(folder: &Path) -> Result<Self, PeersError> {
        let cluster = cluster_of(folder)?;
        let path = folder.join(CA_KEY);
        let text = fs::read_to_string(&path).map_err(|error| PeersError::File { path: path.clone(), error })?;
        let key =
            KeyPair::from_pem(&text).map_err(|error| PeersError::Unusable { path, why: error.to_string() })?;
        Ok(Self { folder: folder.into(), cluster, key })
    }

    /// The cluster.
    pub fn cluster(&self) -> u128 {
        self.cluster
    }

    /// Makes key and certificate of a node in `folder`, over those that are there: a running node takes them with its
    /// next connection.
    ///
    /// # Errors
    /// [`PeersError`] when the name can't stand in a certificate, the folder is of another cluster, or the disk
    /// refuses.
    pub fn issue(&self, name: &str, folder: &Path) -> Result<(), PeersError> {
        if !is_node_name(name) {
            return Err(PeersError::Name { name: name.into() });
        }
        fs::create_dir_all(folder).map_err(|error| PeersError::File { path: folder.into(), error })?;
        if folder.join(CLUSTER).exists() && cluster_of(folder)? != self.cluster {
            return Err(PeersError::Exists { path: folder.join(CLUSTER) });
        }
        let mut params = CertificateParams::new(vec![subject(name, self.cluster)]).map_err(make)?;
        params.distinguished_name = common_name(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(this_year() + NODE_YEARS, 1, 1);
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &Issuer::new(self.params(), &self.key)).map_err(make)?;
        let authority = self.folder.join(CA_CERTIFICATE);
        let authority =
            fs::read_to_string(&authority).map_err(|error| PeersError::File { path: authority.clone(), error })?;
        for (file, text) in [
            (CLUSTER, format!("{}\n", HistoryId(self.cluster))),
            (CA_CERTIFICATE, authority),
            (SECRET, format!("{}\n", self.secret())),
            (NODE_KEY, key.serialize_pem()),
            (NODE_CERTIFICATE, certificate.pem()),
        ] {
            self.write_new(folder, file, &text)?;
        }
        Ok(())
    }

    /// The same for every node, in hexadecimal digits; follows from the authority's key, which no node has.
    fn secret(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key.serialize_der());
        crate::checkpoint::hex(hmac::sign(&key, b"what the nodes of a cluster share").as_ref())
    }

    /// The same at every time, so that what it signs names the certificate that was made at first.
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("reversetender {:032x}", self.cluster));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(this_year() + AUTHORITY_YEARS, 1, 1);
        params
    }

    /// Writes a file aside and renames it: nobody ever reads half of one. Readable by the owner alone.
    fn write_new(&self, folder: &Path, name: &str, text: &str) -> Result<(), PeersError> {
        let (path, aside) = (folder.join(name), folder.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            fs::remove_file(&aside).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| PeersError::File { path: path.clone(), error })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn make(error: rcgen::Error) -> PeersError {
    PeersError::Make(error.to_string())
}

fn this_year() -> i32 {
    const MS_A_YEAR: i64 = 31_556_952_000;
    1970 + (super::wall_ms() / MS_A_YEAR) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_issues_for_its_own_cluster_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second, node) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("n"));
        let cluster = Authority::create(&first).expect("new").cluster();
        assert!(matches!(Authority::create(&first), Err(PeersError::Exists { .. })));
        let again = Authority::open(&first).expect("it is there");
        assert_eq!(again.cluster(), cluster);
        again.issue("frankfurt-1", &node).expect("a good name");
        assert_eq!(cluster_of(&node).expect("written"), cluster);
        let (another, secret) = (folder.path().join("m"), secret_of(&node).expect("written"));
        again.issue("london-1", &another).expect("a good name");
        assert_eq!(secret_of(&another).expect("written"), secret, "all nodes share it");
        again.issue("frankfurt-1", &node).expect("renewed");
        let other = Authority::create(&second).expect("new");
        assert!(matches!(other.issue("frankfurt-1", &node), Err(PeersError::Exists { .. })));
        other.issue("elsewhere", &folder.path().join("e")).expect("a good name");
        assert_ne!(secret_of(&folder.path().join("e")).expect("written"), secret);
        fs::write(another.join(SECRET), "00").expect("written");
        assert!(secret_of(&another).expect_err("too short").to_string().contains("64 hexadecimal digits"));
        for name in ["", "Frankfurt", "a.b", "-a", "a-", "a b", &"x".repeat(64)] {
            let error = again.issue(name, &node).expect_err("no label").to_string();
            assert!(error.contains("frankfurt-1"), "{error}");
        }
        let missing = Authority::open(&node).expect_err("a node has no authority's key").to_string();
        assert!(missing.contains("ca.key") && missing.contains("keys ca"), "{missing}");
    }
}
