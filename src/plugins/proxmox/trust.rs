//! Whether the other end is the one that was meant: by a CA, by its certificate itself, or not at all.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

/// A certificate's SHA-256.
pub type Fingerprint = [u8; 32];

/// What the other end must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A certificate that a CA of the system's has signed.
    System,
    /// ... that a CA of this file has signed, as the cluster's own: /etc/pve/pve-root-ca.pem.
    CaFile(PathBuf),
    /// This certificate and no other.
    Pinned(Fingerprint),
    /// Anything. Whoever is in between can read the token.
    Insecure,
}

/// Why no trust can be established. Trying again helps once somebody has mended the file.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA file cannot be read, or holds no certificate.
    #[error("no CA can be read from {path}: {why}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// TLS that trusts so.
    ///
    /// # Errors
    /// [`TrustError`].
    pub(super) fn config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let of_roots = |roots: RootCertStore| builder.clone().with_root_certificates(roots).with_no_client_auth();
        match self {
            Self::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Ok(of_roots(roots))
            }
            Self::CaFile(path) => {
                let wrong = |why: String| TrustError::CaFile { path: path.clone(), why };
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(wrong("it holds no certificate".to_owned()));
                }
                Ok(of_roots(roots))
            }
            Self::Pinned(_) | Self::Insecure => {
                let pin = if let Self::Pinned(pin) = self { Some(*pin) } else { None };
                let verifier = Arc::new(Pinned { pin, provider });
                Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
            }
        }
    }
}

/// Reads a fingerprint: 32 bytes in hexadecimal, with or without colons, as Proxmox VE shows it.
#[must_use]
pub fn fingerprint(text: &str) -> Option<Fingerprint> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|char| *char != ':')
        .map(|char| char.to_digit(16)?.try_into().ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

/// Takes one certificate, or any; that the other end has its key is checked all the same.
#[derive(Debug)]
struct Pinned {
    pin: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown: Fingerprint = Sha256::digest(end_entity).into();
        if self.pin.is_none_or(|pin| pin == shown) {
            return Ok(ServerCertVerified::assertion());
        }
        let hex: Vec<String> = shown.iter().map(|byte| format!("{byte:02X}")).collect();
        Err(rustls::Error::General(format!("its certificate has another fingerprint: {}", hex.join(":"))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_shown() {
        let plain = "0123456789abcdef".repeat(4);
        let read = fingerprint(&plain).unwrap();
        assert_eq!((read.len(), read.first(), read.last()), (32, Some(&0x01), Some(&0xef)));
        let shown: Vec<String> = read.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(fingerprint(&shown.join(":")), Some(read));
        for bad in ["", "01:23", &plain.replace('0', "g"), &format!("{plain}00")] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_ca_file_holds_a_ca() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(Trust::CaFile(path.clone()).config(), Err(TrustError::CaFile { .. })));
        std::fs::write(&path, "nothing").unwrap();
        let why = Trust::CaFile(path).config().unwrap_err().to_string();
        assert!(why.contains("holds no certificate"), "{why}");
    }
}
