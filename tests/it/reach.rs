//! How `check-config --online` reports why Twilio can't be reached.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use twilio_call_exporter::twilio::client::install_crypto;

use crate::harness::run;

/// A host name to reach through a proxy; requests to loopback addresses bypass the proxy.
const TWILIO: &str = "https://api.twilio.com.invalid";

#[tokio::test(flavor = "multi_thread")]
async fn reports_certificate_problems() {
    let directory = TempDir::new().expect("a directory");
    let authority = authority();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).expect("written");
    for (from, to, name, trusts, expected) in [
        (2020, 4000, "localhost", false, "the certificate's issuer is unknown: if a proxy"),
        (2020, 2021, "localhost", true, "the certificate has expired: check this machine's clock"),
        (3000, 4000, "localhost", true, "the certificate is not valid yet: check"),
        (2020, 4000, "twilio.example", true, "the certificate is for another host name: check"),
        // The TLS handshake succeeds, then the server closes the connection.
        (2020, 4000, "localhost", true, "the response was cut off"),
    ] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let url = format!("https://localhost:{}", serve_tls_and_close(&certificate, &key).await);
        let trusted = trusts.then_some(ca_file.as_path());
        let output = check_online(&url, None, trusted).await;
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_proxy_problems() {
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "the proxy asks for credentials (HTTP 407): set the correct user name",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy refuses to connect to Twilio: allow CONNECT"),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "the proxy refuses to connect to Twilio: allow CONNECT",
        ),
        ("", "the proxy closed the connection: check"),
        ("HTTP/1.1 200 OK\r\n\r\n", "cannot connect: the connection was closed immediately: "),
    ] {
        let proxy = format!("http://somebody:p4ssw0rd@127.0.0.1:{}", serve_response(answer).await);
        let output = check_online(TWILIO, Some(&proxy), None).await;
        assert!(output.contains(expected), "{expected}: {output}");
        assert!(!output.contains("p4ssw0rd") && !output.contains("somebody"), "{output}");
    }
    for (proxy, expected) in [
        ("http://127.0.0.1:9", "the proxy can't be reached: check HTTPS_PROXY"),
        ("http://proxy.invalid:3128", "the proxy's host name can't be resolved: check HTTPS_PROXY"),
    ] {
        let output = check_online(TWILIO, Some(proxy), None).await;
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_connection_problems() {
    let http = serve_response("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    for (url, expected) in [
        ("http://127.0.0.1:9".to_owned(), "cannot connect: connection refused: check"),
        (TWILIO.to_owned(), "cannot connect: the host name can't be resolved: check"),
        (format!("https://127.0.0.1:{http}"), "cannot connect: the TLS handshake failed: "),
        (format!("http://127.0.0.1:{}", serve_response("").await), "the response was cut off: "),
        (
            format!("http://127.0.0.1:{}", serve_response("SSH-2.0\r\n\r\n").await),
            "the response is not HTTP: ",
        ),
    ] {
        let output = check_online(&url, None, None).await;
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

/// Runs `check-config --online`, asserts that calls can't be read, and returns its output.
async fn check_online(url: &str, proxy: Option<&str>, ca_file: Option<&Path>) -> String {
    let mut variables = vec![
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001".to_owned()),
        ("TWILIO_AUTH_TOKEN", "made-up".to_owned()),
        ("TWILIO_API_BASE_URL", url.to_owned()),
    ];
    variables.extend(proxy.map(|proxy| ("HTTPS_PROXY", proxy.to_owned())));
    let ca_file = ca_file.map(|file| file.display().to_string());
    variables.extend(ca_file.map(|file| ("TWILIO_EXPORTER_API__CA_FILE", file)));
    let checked = tokio::task::spawn_blocking(move || {
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run(&["check-config", "--online"], &variables)
    });
    let ended = checked.await.expect("no panic");
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("calls         NOT readable: "), "{}", ended.stdout);
    ended.stdout
}

/// Starts a server that answers each request with these bytes and closes the connection; returns its
/// port.
async fn serve_response(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = stream.read(&mut [0; 4_096]).await;
            let _answered = stream.write_all(text.as_bytes()).await;
        }
    });
    port
}

/// Starts a server that closes each connection after the TLS handshake; returns its port.
async fn serve_tls_and_close(certificate: &rcgen::Certificate, key: &KeyPair) -> u16 {
    install_crypto();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("TLS");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _read = stream.read(&mut [0; 4_096]).await;
            }
        }
    });
    port
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}
