//! The authority that a cluster's secret stands for, and the certificate by which a node belongs to it.
//!
//! Both sides of a connection between nodes present a certificate and verify the other's: it must be signed by
//! the authority of one of their secrets, and name the node that is meant. TLS 1.3 only.
//!
//! Invariants:
//! 1. The same secret gives the same authority, on every machine and in every version.
//! 2. A node's own key is drawn at its start and leaves the process never; neither does an authority's.
//! 3. No clock decides: certificates are looked at as of a fixed moment, so that a node whose clock is years
//!    off is no stranger. A secret is taken out of use by a new one.
//! 4. Nothing is resumed: every connection is verified in full.
//!
//! Source: RFC 5869 (HKDF), RFC 8032 (Ed25519), RFC 5280 (certificates), RFC 8446 (TLS 1.3).

use std::sync::Arc;
use std::time::Duration;

use mainspring_core::ids::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::secret::{ClusterSecret, hex};

const SALT: &[u8] = b"mainspring cluster secret v1";
const AUTHORITY: &[u8] = b"authority Ed25519 seed";
/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// Bytes of a fingerprint: enough to tell secrets apart, and no help in guessing one.
const FINGERPRINT_BYTES: usize = 6;
/// The moment as of which certificates are looked at: 2020-01-01, within the validity of all.
const AS_OF: Duration = Duration::from_hours(438_288);

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// How a node speaks TLS with the others.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// Fingerprints of the secrets, the one that is presented first.
    pub(super) fingerprints: Vec<String>,
}

impl Configs {
    /// Makes this node's certificate under the first secret, and takes those of all secrets.
    pub(super) fn new(secrets: &[ClusterSecret], node: NodeId) -> Result<Self, Problem> {
        let provider = Arc::new(default_provider());
        let authorities = secrets.iter().map(Authority::new).collect::<Result<Vec<_>, _>>()?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.certificate.clone())?;
        }
        let roots = Arc::new(roots);
        let own = authorities.first().ok_or("there is no secret")?.admit(node)?;
        Ok(Self {
            server: Arc::new(server(&provider, &roots, &own)?),
            client: Arc::new(client(&provider, roots, own)?),
            fingerprints: authorities.into_iter().map(|it| it.fingerprint).collect(),
        })
    }
}

/// Returns the name by which a certificate names a node.
pub(super) fn name_of(node: NodeId) -> ServerName<'static> {
    ServerName::try_from(text_of(node)).expect("a number between letters is a name")
}

fn text_of(node: NodeId) -> String {
    format!("node-{}.mainspring", node.0)
}

/// Returns what tells one secret from another in front of people.
pub(super) fn fingerprint(secret: &ClusterSecret) -> String {
    let key = Ed25519KeyPair::from_seed_unchecked(&seed(secret)).expect("a seed has 32 bytes");
    print_of(key.public_key().as_ref())
}

fn print_of(public_key: &[u8]) -> String {
    hex(&digest(&SHA256, public_key).as_ref()[..FINGERPRINT_BYTES])
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    fingerprint: String,
}

impl Authority {
    fn new(secret: &ClusterSecret) -> Result<Self, Problem> {
        let mut pkcs8 = PKCS8_HEAD.to_vec();
        pkcs8.extend(seed(secret));
        let key = PrivatePkcs8KeyDer::from(pkcs8);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?;
        let fingerprint = print_of(key.der_bytes());
        let mut params = CertificateParams::default();
        params.distinguished_name = called(format!("mainspring cluster {fingerprint}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { params, key, certificate, fingerprint })
    }

    /// Makes the certificate of a node, with a key that nobody else has.
    fn admit(&self, node: NodeId) -> Result<Own, Problem> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::new([text_of(node)])?;
        params.distinguished_name = called(format!("node {}", node.0));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Own { certificate, key })
    }
}

/// A node's certificate and its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn called(name: String) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn seed(secret: &ClusterSecret) -> [u8; 32] {
    let mut seed = [0; 32];
    let key = Salt::new(HKDF_SHA256, SALT).extract(secret.bytes());
    key.expand(&[AUTHORITY], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut seed))
        .expect("one block of the hash is asked for");
    seed
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    own: &Own,
) -> Result<ServerConfig, Problem> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(Fixed))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(vec![own.certificate.clone()], own.key.clone_key())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    own: Own,
) -> Result<ClientConfig, Problem> {
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(Fixed))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own.certificate], own.key)?;
    config.resumption = Resumption::disabled();
    // Who listens on the way need not know who talks to whom.
    config.enable_sni = false;
    Ok(config)
}

#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(AS_OF))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, ClientConnection, Error, ServerConnection};

    use super::*;

    const OLD: ClusterSecret = ClusterSecret::of(1);
    const NEW: ClusterSecret = ClusterSecret::of(2);

    fn configs(secrets: &[ClusterSecret], node: i32) -> Configs {
        Configs::new(secrets, NodeId(node)).expect("there is a secret")
    }

    /// Lets a client and a server talk until both are content or one is not.
    #[expect(clippy::unwrap_in_result, reason = "what is expected is of the test's own making")]
    fn meet(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
        name: ServerName<'static>,
    ) -> Result<(), Error> {
        let mut client = ClientConnection::new(Arc::clone(client), name).expect("it is a name");
        let mut server = ServerConnection::new(Arc::clone(server)).expect("it is complete");
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("a vector takes all");
            server.read_tls(&mut io::Cursor::new(bytes)).expect("a cursor gives all");
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("a vector takes all");
            client.read_tls(&mut io::Cursor::new(bytes)).expect("a cursor gives all");
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    fn both_ways(left: &[ClusterSecret], right: &[ClusterSecret]) -> Result<(), Error> {
        let (left, right) = (configs(left, 1), configs(right, 2));
        meet(&left.client, &right.server, name_of(NodeId(2)))?;
        meet(&right.client, &left.server, name_of(NodeId(1)))
    }

    #[test]
    fn a_secret_gives_the_same_authority_on_every_machine() {
        let (one, other) = (Authority::new(&OLD), Authority::new(&OLD));
        let (one, other) = (one.expect("a key"), other.expect("a key"));
        assert_eq!(one.certificate, other.certificate);
        assert_eq!(one.fingerprint, OLD.fingerprint());
        // Nodes of different versions make up one cluster: key and name may never change.
        assert_eq!(one.fingerprint, "6550387cb34e");
        assert_eq!(one.params.distinguished_name, called("mainspring cluster 6550387cb34e".into()));
        assert_ne!(OLD.fingerprint(), NEW.fingerprint());
    }

    #[test]
    fn nodes_of_one_secret_verify_each_other_and_no_others() {
        both_ways(&[OLD], &[OLD]).expect("it is the same");
        let stranger = |result| {
            matches!(result, Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)))
        };
        assert!(stranger(both_ways(&[OLD], &[NEW])));
        let (member, other) = (configs(&[OLD], 1), configs(&[NEW, OLD], 2));
        // It takes the member's certificate, but shows one that the member does not know.
        assert!(stranger(meet(&member.client, &other.server, name_of(NodeId(2)))));
        assert!(stranger(meet(&other.client, &member.server, name_of(NodeId(1)))));
    }

    #[test]
    fn a_secret_is_exchanged_node_by_node_in_three_rounds() {
        let rounds: [&[ClusterSecret]; 4] = [&[OLD], &[OLD, NEW], &[NEW, OLD], &[NEW]];
        for pair in rounds.windows(2) {
            both_ways(pair[0], pair[1]).expect("a round passes with nodes of both kinds");
        }
    }

    #[test]
    fn a_certificate_names_its_node() {
        let (one, two) = (configs(&[OLD], 1), configs(&[OLD], 2));
        assert!(matches!(
            meet(&one.client, &two.server, name_of(NodeId(3))),
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
        ));
    }

    #[test]
    fn who_shows_no_certificate_is_refused() {
        let server = configs(&[OLD], 1).server;
        let authority = Authority::new(&OLD).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate).expect("it is one");
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_details(provider, Arc::new(Fixed))
            .with_protocol_versions(&[&TLS13])
            .expect("it is known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let met = meet(&Arc::new(client), &server, name_of(NodeId(1)));
        assert_eq!(met, Err(Error::NoCertificatesPresented));
    }

    #[test]
    fn a_node_cannot_admit_others() {
        let authority = Authority::new(&OLD).expect("a key");
        let own = authority.admit(NodeId(2)).expect("it may");
        let PrivateKeyDer::Pkcs8(key) = &own.key else { panic!("it is made as one") };
        let key = KeyPair::from_pkcs8_der_and_sign_algo(key, &PKCS_ED25519).expect("it is one");
        let mut params = CertificateParams::default();
        params.distinguished_name = called("node 2".to_owned());
        let second = Authority {
            params,
            key,
            certificate: own.certificate.clone(),
            fingerprint: String::new(),
        };
        let forged = second.admit(NodeId(3)).expect("anybody can sign");
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate).expect("it is one");
        let chain = vec![forged.certificate, own.certificate];
        let client = ClientConfig::builder_with_details(provider, Arc::new(Fixed))
            .with_protocol_versions(&[&TLS13])
            .expect("it is known")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, forged.key)
            .expect("they fit");
        let met = meet(&Arc::new(client), &configs(&[OLD], 1).server, name_of(NodeId(1)));
        assert!(matches!(met, Err(Error::InvalidCertificate(_))), "{met:?}");
    }
}
