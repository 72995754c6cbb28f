//! An app registration's certificate, and the assertions that it signs.
//!
//! `azure_identity`'s own certificate credential needs OpenSSL; ring, which TLS uses anyway, signs
//! as well (`learn.microsoft.com/entra/identity-platform/certificate-credentials`).

use std::{fmt, fs, path::Path, sync::Arc};

use async_trait::async_trait;
use azure_core::{error::ErrorKind, http::ClientMethodOptions};
use azure_identity::ClientAssertion;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair,
    signature::RSA_PSS_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    error::{Error, Result},
    io::clock::SharedClock,
};

/// How long an assertion holds: Entra's example says five to ten minutes.
const LIFETIME: i64 = 600;

/// A certificate with its private key. Clones share both.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<KeyPair>,
    thumbprint: String,
    ends: DateTime<Utc>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a PEM file that holds both. Blocks.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let pem = fs::read(path)
            .map_err(|error| Error::config(format!("`{shown}` can't be read: {error}")))?;
        Self::from_pem(&pem).map_err(|error| error.context(format!("`{shown}`")))
    }

    /// The first certificate and the first private key of a PEM text.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| {
            Error::config(
                "holds no PEM certificate: a PFX file is turned into one by `openssl pkcs12 -in \
                 app.pfx -nodes -out app.pem`",
            )
        })?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            Error::config(
                "holds no private key without a passphrase: put it beside the certificate",
            )
        })?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
            _ => {
                return Err(Error::config(
                    "holds a key that is not RSA, which Entra needs",
                ));
            }
        };
        let key = key.map_err(|error| {
            Error::config(format!(
                "holds no RSA key of 2048 to 4096 bits, which Entra needs ({error})"
            ))
        })?;
        let ends = ends(&certificate)
            .ok_or_else(|| Error::config("holds a certificate that is not X.509"))?;
        Ok(Self {
            key: Arc::new(key),
            ends,
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.as_ref())),
        })
    }

    /// The last moment at which Entra takes it.
    pub fn ends(&self) -> DateTime<Utc> {
        self.ends
    }

    /// How Entra finds it: the SHA-256 of the certificate, in base64url.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The proof to `audience` that the app `client_id` holds the key.
    pub(super) fn assertion(
        &self,
        audience: String,
        client_id: String,
        clock: SharedClock,
    ) -> Assertion {
        Assertion {
            certificate: self.clone(),
            audience,
            client_id,
            clock,
        }
    }

    /// `text` signed, as the third part of a token.
    fn sign(&self, text: &str) -> Option<String> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(URL_SAFE_NO_PAD.encode(signature))
    }
}

fn ends(certificate: &CertificateDer<'_>) -> Option<DateTime<Utc>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

pub(super) struct Assertion {
    certificate: Certificate,
    audience: String,
    client_id: String,
    clock: SharedClock,
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = self.clock.now().timestamp();
        let id = format!("{:032x}", rand::random::<u128>());
        let head = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.certificate.thumbprint});
        let claims = json!({
            "aud": self.audience,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": id,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
        });
        let encoded = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encoded(head), encoded(claims));
        let signature = self.certificate.sign(&text).ok_or_else(|| {
            azure_core::Error::with_message(ErrorKind::Credential, "the key can't sign")
        })?;
        Ok(format!("{text}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};

    use super::*;

    const PEM: &str = include_str!("../../../tests/fixtures/app-certificate.crt");

    #[test]
    fn a_signature_can_be_verified_with_the_public_key() {
        let certificate = Certificate::from_pem(PEM.as_bytes()).unwrap();
        let signature = certificate.sign("text").unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public: RsaPublicKeyComponents<Vec<u8>> = certificate.key.public().into();
        public
            .verify(&RSA_PSS_2048_8192_SHA256, b"text", &signature)
            .unwrap();
        assert!(
            public
                .verify(&RSA_PSS_2048_8192_SHA256, b"other", &signature)
                .is_err()
        );
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        // ring makes no RSA keys: the fixture's stands beside a certificate of another one.
        let own = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let certificate = params.self_signed(&own).unwrap().pem();
        let begin = PEM.find("-----BEGIN PRIVATE KEY-----").unwrap();
        let (_, key) = PEM.split_at(begin);
        let certificate = Certificate::from_pem(format!("{certificate}{key}").as_bytes());
        assert_eq!(
            certificate.unwrap().ends().to_rfc3339(),
            "2031-05-06T00:00:00+00:00"
        );
    }

    #[test]
    fn what_is_missing_in_the_file_is_named() {
        let text = |pem: &str| {
            Certificate::from_pem(pem.as_bytes())
                .unwrap_err()
                .to_string()
        };
        let begin = PEM.find("-----BEGIN PRIVATE KEY-----").unwrap();
        let (certificate, key) = PEM.split_at(begin);
        assert!(text(certificate).contains("private key"));
        assert!(text(key).contains("no PEM certificate"));
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(text(&format!("{certificate}{elliptic}")).contains("RSA"));
        let shown = format!("{:?}", Certificate::from_pem(PEM.as_bytes()).unwrap());
        assert!(
            shown.contains("thumbprint") && !shown.contains("key"),
            "{shown}"
        );
    }
}
