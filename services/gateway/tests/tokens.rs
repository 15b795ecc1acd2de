//! Tokens of every algorithm against a real key endpoint: found, rotated, slow, dead.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reactor_gateway::auth::{AuthError, JwksCache, TokenVerifier, VerifierSettings};
use serde_json::{Value, json};
use tokio::sync::Mutex;

const NOW: u64 = 1_800_000_000;

/// What the endpoint serves, and how slowly.
#[derive(Default)]
struct Endpoint {
    keys: Mutex<Vec<Jwk>>,
    delay: Mutex<Duration>,
    asked: AtomicUsize,
}

async fn serve(endpoint: Arc<Endpoint>) -> Result<String> {
    reactor_runtime::crypto::install_crypto_provider();
    let answer = async |State(endpoint): State<Arc<Endpoint>>| {
        endpoint.asked.fetch_add(1, Ordering::SeqCst);
        let delay = *endpoint.delay.lock().await;
        reactor_testkit::wait::elapse(delay, "as slowly as the test says").await;
        axum::Json(json!({"keys": *endpoint.keys.lock().await}))
    };
    let router = Router::new().route("/jwks.json", get(answer)).with_state(endpoint);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}/jwks.json"))
}

/// A private key made by openssl, so that none is kept in the sources.
fn private_pem(arguments: &[&str]) -> Result<Vec<u8>> {
    let made = Command::new("openssl").arg("genpkey").args(arguments).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(made.stdout)
}

fn signer(algorithm: Algorithm) -> Result<EncodingKey> {
    Ok(match algorithm {
        Algorithm::RS256 => {
            EncodingKey::from_rsa_pem(&private_pem(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])?)?
        }
        Algorithm::ES256 => {
            EncodingKey::from_ec_pem(&private_pem(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])?)?
        }
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&private_pem(&["-algorithm", "ed25519"])?)?,
        _ => EncodingKey::from_secret(b"shared"),
    })
}

fn public(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Result<Jwk> {
    let mut jwk = Jwk::from_encoding_key(key, algorithm)?;
    jwk.common.key_id = Some(kid.to_owned());
    Ok(jwk)
}

fn sign(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>) -> Result<String> {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    let claims: Value = json!({"role": "authenticated", "exp": NOW + 60, "iat": NOW});
    Ok(jsonwebtoken::encode(&header, &claims, key)?)
}

fn verifier(url: String, secret: Option<&str>) -> Result<TokenVerifier> {
    Ok(TokenVerifier::new(VerifierSettings {
        secret: secret.map(|secret| secret.as_bytes().to_vec()),
        jwks: Some(JwksCache::new(url)?),
        org_claim: "orgs".into(),
        ..VerifierSettings::default()
    }))
}

#[tokio::test]
async fn every_algorithm_verifies_with_its_own_key_only() -> Result<()> {
    let endpoint = Arc::new(Endpoint::default());
    let verifier = verifier(serve(Arc::clone(&endpoint)).await?, None)?;
    let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let keys = algorithms.map(|algorithm| signer(algorithm).map(|key| (algorithm, key)));
    for (algorithm, key) in keys.iter().flatten() {
        endpoint.keys.lock().await.push(public(key, *algorithm, &format!("{algorithm:?}"))?);
    }
    for (algorithm, key) in keys.iter().flatten() {
        let kid = format!("{algorithm:?}");
        assert!(verifier.verify(&sign(key, *algorithm, Some(&kid))?, NOW).await.is_ok(), "{algorithm:?}");
        assert!(verifier.verify(&sign(key, *algorithm, None)?, NOW).await.is_ok(), "{algorithm:?} without a key id");
        let forged = sign(&signer(*algorithm)?, *algorithm, Some(&kid))?;
        assert_eq!(verifier.verify(&forged, NOW).await.map(|_| ()), Err(AuthError::Signature), "{algorithm:?}");
    }
    // A public key taken for an HMAC secret is the classic confusion.
    let confused = sign(&EncodingKey::from_secret(b"anything"), Algorithm::HS256, Some("RS256"))?;
    assert_eq!(verifier.verify(&confused, NOW).await.map(|_| ()), Err(AuthError::NoKey));
    Ok(())
}

#[tokio::test]
async fn secrets_serve_all_three_lengths() -> Result<()> {
    let verifier = TokenVerifier::new(VerifierSettings {
        secret: Some(b"shared".to_vec()),
        org_claim: "orgs".into(),
        ..VerifierSettings::default()
    });
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let good = sign(&EncodingKey::from_secret(b"shared"), algorithm, None)?;
        assert!(verifier.verify(&good, NOW).await.is_ok(), "{algorithm:?}");
        let bad = sign(&EncodingKey::from_secret(b"other"), algorithm, None)?;
        assert_eq!(verifier.verify(&bad, NOW).await.map(|_| ()), Err(AuthError::Signature), "{algorithm:?}");
    }
    let unsigned = "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiciIsImV4cCI6MTgwMDAwMDA2MH0.";
    assert_eq!(verifier.verify(unsigned, NOW).await.map(|_| ()), Err(AuthError::Malformed));
    Ok(())
}

#[tokio::test]
async fn a_rotated_key_is_fetched_and_shared() -> Result<()> {
    let endpoint = Arc::new(Endpoint::default());
    let (old, new) = (signer(Algorithm::ES256)?, signer(Algorithm::ES256)?);
    endpoint.keys.lock().await.push(public(&old, Algorithm::ES256, "old")?);
    let verifier = Arc::new(verifier(serve(Arc::clone(&endpoint)).await?, None)?);
    assert!(verifier.verify(&sign(&old, Algorithm::ES256, Some("old"))?, NOW).await.is_ok());
    *endpoint.keys.lock().await = vec![public(&new, Algorithm::ES256, "new")?];
    let token = sign(&new, Algorithm::ES256, Some("new"))?;
    let asked = (0..20).map(|_| verifier.verify(&token, NOW));
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert_eq!(endpoint.asked.load(Ordering::SeqCst), 2, "twenty unknown key ids at once are one fetch");
    assert_eq!(
        verifier.verify(&sign(&old, Algorithm::ES256, Some("old"))?, NOW).await.map(|_| ()),
        Err(AuthError::NoKey)
    );
    Ok(())
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
async fn a_slow_endpoint_delays_nobody_whose_key_is_known() -> Result<()> {
    let endpoint = Arc::new(Endpoint::default());
    let key = signer(Algorithm::EdDSA)?;
    endpoint.keys.lock().await.push(public(&key, Algorithm::EdDSA, "a")?);
    let verifier = verifier(serve(Arc::clone(&endpoint)).await?, Some("shared"))?;
    let known = sign(&key, Algorithm::EdDSA, Some("a"))?;
    assert!(verifier.verify(&known, NOW).await.is_ok());
    *endpoint.delay.lock().await = Duration::from_secs(60);
    let begun = Instant::now();
    assert!(verifier.verify(&known, NOW).await.is_ok());
    let symmetric = sign(&EncodingKey::from_secret(b"shared"), Algorithm::HS256, Some("unknown"))?;
    assert!(verifier.verify(&symmetric, NOW).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(1), "took {:?}", begun.elapsed());
    let unknown = sign(&key, Algorithm::EdDSA, Some("b"))?;
    assert_eq!(verifier.verify(&unknown, NOW).await.map(|_| ()), Err(AuthError::NoKey));
    assert!(begun.elapsed() < Duration::from_secs(8), "an unknown key waits for the deadline, not for the endpoint");
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_leaves_the_secret() -> Result<()> {
    reactor_runtime::crypto::install_crypto_provider();
    let verifier = verifier("http://127.0.0.1:9/jwks.json".into(), Some("shared"))?;
    let token = sign(&EncodingKey::from_secret(b"shared"), Algorithm::HS256, None)?;
    assert!(verifier.verify(&token, NOW).await.is_ok());
    let other = sign(&signer(Algorithm::EdDSA)?, Algorithm::EdDSA, Some("a"))?;
    assert_eq!(verifier.verify(&other, NOW).await.map(|_| ()), Err(AuthError::KeysUnavailable));
    Ok(())
}

#[tokio::test]
async fn keys_are_used_for_what_they_are_meant_for() -> Result<()> {
    let endpoint = Arc::new(Endpoint::default());
    let key = signer(Algorithm::RS256)?;
    let mut encryption = public(&key, Algorithm::RS256, "enc")?;
    encryption.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let mut other = public(&key, Algorithm::RS256, "rs512")?;
    other.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::RS512);
    *endpoint.keys.lock().await = vec![encryption, other, public(&key, Algorithm::RS256, "good")?];
    let verifier = verifier(serve(Arc::clone(&endpoint)).await?, None)?;
    for (kid, good) in [("enc", false), ("rs512", false), ("good", true)] {
        assert_eq!(verifier.verify(&sign(&key, Algorithm::RS256, Some(kid))?, NOW).await.is_ok(), good, "{kid}");
    }
    let mut critical = Header::new(Algorithm::RS256);
    critical.kid = Some("good".into());
    critical.crit = Some(vec!["exp".into()]);
    let token = jsonwebtoken::encode(&critical, &json!({"role": "r", "exp": NOW + 60}), &key)?;
    assert_eq!(verifier.verify(&token, NOW).await.map(|_| ()), Err(AuthError::Malformed));
    Ok(())
}
