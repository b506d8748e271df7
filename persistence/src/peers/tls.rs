//! TLS for links: version 1.3 only, both sides show a certificate of the cluster's authority, and each checks the other's
//! name. Certificates are read anew for every connection, so a renewed one needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::authority::{CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY, subject};
use super::{Hello, PeersError};

/// Makes the two ends of a connection.
pub(super) struct Tls {
    folder: PathBuf,
    cluster: u128,
    provider: Arc<CryptoProvider>,
}

struct Files {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// Checks that the folder holds what is needed, and that it is this node's.
    pub(super) fn open(folder: PathBuf, hello: &Hello) -> Result<Self, PeersError> {
        let tls = Self { folder, cluster: hello.cluster, provider: Arc::new(aws_lc_rs::default_provider()) };
        let files = tls.files()?;
        tls.client()?;
        tls.server()?;
        if !tls.is_of(files.chain.first(), &hello.name) {
            let why = format!("it is not the certificate of node \"{}\" of this cluster", hello.name);
            return Err(PeersError::Unusable { path: tls.folder.join(NODE_CERTIFICATE), why });
        }
        Ok(tls)
    }

    /// Whether a certificate, which was verified already, is a node's of this cluster.
    pub(super) fn is_of(&self, certificate: Option<&CertificateDer<'_>>, name: &str) -> bool {
        let parsed = certificate.and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
        let expected = ServerName::try_from(subject(name, self.cluster));
        parsed.zip(expected.ok()).is_some_and(|(parsed, expected)| verify_server_name(&parsed, &expected).is_ok())
    }

    /// The end that dials `name`.
    pub(super) fn dial(&self, name: &str) -> Result<ClientConnection, PeersError> {
        let expected = ServerName::try_from(subject(name, self.cluster));
        let expected = expected.map_err(|_| PeersError::Name { name: name.into() })?;
        ClientConnection::new(Arc::new(self.client()?), expected)
            .map_err(|error| self.unusable(NODE_CERTIFICATE, error))
    }

    /// The end that is dialled.
    pub(super) fn answer(&self) -> Result<ServerConnection, PeersError> {
        ServerConnection::new(Arc::new(self.server()?)).map_err(|error| self.unusable(NODE_CERTIFICATE, error))
    }

    fn client(&self) -> Result<ClientConfig, PeersError> {
        let Files { roots, chain, key } = self.files()?;
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(NODE_CERTIFICATE, error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| self.unusable(NODE_CERTIFICATE, error))
    }

    fn server(&self) -> Result<ServerConfig, PeersError> {
        let Files { roots, chain, key } = self.files()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|error| self.unusable(CA_CERTIFICATE, error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(NODE_CERTIFICATE, error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| self.unusable(NODE_CERTIFICATE, error))?;
        // The other end never reads again once it was answered.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn files(&self) -> Result<Files, PeersError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(CA_CERTIFICATE)? {
            roots.add(certificate).map_err(|error| self.unusable(CA_CERTIFICATE, error))?;
        }
        let chain = self.certificates(NODE_CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_slice(&self.read(NODE_KEY)?);
        let key = key.map_err(|error| self.unusable(NODE_KEY, error))?;
        Ok(Files { roots: Arc::new(roots), chain, key })
    }

    fn certificates(&self, file: &str) -> Result<Vec<CertificateDer<'static>>, PeersError> {
        let bytes = self.read(file)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = certificates.map_err(|error| self.unusable(file, error))?;
        if certificates.is_empty() {
            return Err(self.unusable(file, "there is no certificate in it"));
        }
        Ok(certificates)
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, PeersError> {
        let path = self.folder.join(file);
        std::fs::read(&path).map_err(|error| PeersError::File { path, error })
    }

    fn unusable(&self, file: &str, why: impl std::fmt::Display) -> PeersError {
        PeersError::Unusable { path: Path::new(&self.folder).join(file), why: why.to_string() }
    }
}
