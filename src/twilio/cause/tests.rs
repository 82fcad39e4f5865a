//! Produces each cause with real connections on loopback.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Proxy};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::ConnectFailure::*;
use super::*;
use crate::twilio::client::install_crypto;
use crate::twilio::resolver::Resolver;

#[tokio::test]
async fn distinguishes_why_a_connection_fails() {
    let closed = closed_port().await;
    assert_eq!(cause(&format!("https://127.0.0.1:{closed}"), None).await, Refused);
    assert_eq!(cause("https://api.twilio.com.invalid", None).await, Dns);
    // The kernel refuses to connect to a broadcast address.
    assert_eq!(cause("https://255.255.255.255", None).await, Unreachable);
    let (silent, _held) = silent_port().await;
    assert_eq!(cause(&format!("https://127.0.0.1:{silent}"), None).await, Timeout);
    let hangs_up = server(|_| async {}).await;
    assert_eq!(cause(&format!("https://127.0.0.1:{hangs_up}"), None).await, Closed);
    let http = server(|mut stream| async move {
        let _answered = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        read_some(&mut stream).await;
    })
    .await;
    assert_eq!(cause(&format!("https://127.0.0.1:{http}"), None).await, Tls);
}

#[tokio::test]
async fn an_unresponsive_name_server_is_a_dns_failure() {
    install_crypto();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .dns_resolver(Resolver::new(Duration::ZERO))
        .connect_timeout(Duration::from_secs(60))
        .build()
        .expect("a client");
    let error = client.get("http://api.twilio.com.invalid").send().await.expect_err("no name");
    assert_eq!(transport(&error), Error::Connect(Dns));
}

#[tokio::test]
async fn distinguishes_why_a_certificate_is_invalid() {
    let authority = authority("the authority");
    let trusted = Certificate::from_der(authority.der()).expect("a certificate");
    let issued = |valid: (i32, i32), name: &str| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(valid.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(valid.1, 1, 1);
        (params.signed_by(&key, &authority).expect("signed"), key)
    };
    for (certificate, trusts, expected) in [
        (issued((2020, 4000), "localhost"), true, None),
        (issued((2020, 4000), "localhost"), false, Some(UnknownIssuer)),
        (issued((2020, 2021), "localhost"), true, Some(Expired)),
        (issued((3000, 4000), "localhost"), true, Some(NotYetValid)),
        (issued((2020, 4000), "api.example.com"), true, Some(WrongName)),
        (self_signed(false), false, Some(UnknownIssuer)),
        // As `openssl req -x509` creates it.
        (self_signed(true), false, Some(UnknownIssuer)),
    ] {
        let (certificate, key) = certificate;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        install_crypto();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("TLS");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let port = server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _answered = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    let _closed = stream.shutdown().await;
                }
            }
        })
        .await;
        let ca = trusts.then(|| trusted.clone());
        let client = client(ca, None);
        let result = client.get(format!("https://localhost:{port}")).send().await;
        let found = result.err().map(|error| transport(&error));
        assert_eq!(found, expected.map(Error::Connect));
    }
}

#[tokio::test]
async fn requiring_a_client_certificate_is_a_tls_failure() {
    install_crypto();
    let authority = authority("the authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).expect("a root");
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
    let config = ServerConfig::builder().with_client_cert_verifier(clients.build().expect("TLS"));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("TLS");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // Dropping the stream with unread data would reset the connection.
            if let Err((_, mut stream)) = acceptor.accept(stream).into_fallible().await {
                read_some(&mut stream).await;
            }
        }
    })
    .await;
    let ca = Certificate::from_der(authority.der()).expect("a certificate");
    let sent = client(Some(ca), None).get(format!("https://localhost:{port}")).send().await;
    assert_eq!(transport(&sent.expect_err("refused")), Error::Connect(Tls));
}

#[tokio::test]
async fn distinguishes_failures_of_the_proxy_from_failures_of_twilio() {
    let answers = |text: &'static [u8]| {
        server(move |mut stream| async move {
            read_some(&mut stream).await;
            let _answered = stream.write_all(text).await;
        })
    };
    for (port, expected) in [
        (closed_port().await, ProxyUnreachable),
        (answers(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await, ProxyCredentials),
        (answers(b"HTTP/1.1 403 Forbidden\r\n\r\n").await, ProxyDenied),
        (answers(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await, ProxyDenied),
        (answers(b"SSH-2.0-OpenSSH\r\n").await, ProxyDenied),
        (answers(b"").await, ProxyClosed),
        // The tunnel is open, so the failure is Twilio's.
        (answers(b"HTTP/1.1 200 OK\r\n\r\n").await, Closed),
    ] {
        let proxy = format!("http://127.0.0.1:{port}");
        assert_eq!(cause("https://api.twilio.com.invalid", Some(&proxy)).await, expected);
    }
    let named = cause("https://api.twilio.com.invalid", Some("http://proxy.invalid:3128")).await;
    assert_eq!(named, ProxyDns);
    let no_tls = answers(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let over_tls = format!("https://127.0.0.1:{no_tls}");
    assert_eq!(cause("https://api.twilio.com.invalid", Some(&over_tls)).await, ProxyTls);
}

#[tokio::test]
async fn a_failure_after_connecting_is_not_a_failure_to_connect() {
    for (answer, expected) in [
        (&b""[..], Error::Interrupted),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Error::NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Error::Interrupted),
    ] {
        let port = server(move |mut stream| async move {
            read_some(&mut stream).await;
            let _answered = stream.write_all(answer).await;
        })
        .await;
        let sent = client(None, None).get(format!("http://127.0.0.1:{port}")).send().await;
        let error = match sent {
            Ok(response) => response.bytes().await.expect_err("a truncated response"),
            Err(error) => error,
        };
        assert_eq!(transport(&error), expected);
    }
    let port = server(|mut stream| async move {
        read_some(&mut stream).await;
        std::future::pending().await
    })
    .await;
    let sent = client(None, None).get(format!("http://127.0.0.1:{port}")).send().await;
    assert_eq!(transport(&sent.expect_err("no response")), Error::Timeout);
}

async fn cause(url: &str, proxy: Option<&str>) -> ConnectFailure {
    let error = client(None, proxy).get(url).send().await.expect_err("no connection");
    let error = transport(&error);
    let Error::Connect(cause) = error else { panic!("{error} for {url} through {proxy:?}") };
    cause
}

/// Creates a client that trusts only `ca`, or an authority that has signed nothing.
fn client(ca: Option<Certificate>, proxy: Option<&str>) -> reqwest::Client {
    install_crypto();
    let other = || Certificate::from_der(authority("another").der()).expect("a certificate");
    let builder = reqwest::Client::builder()
        .tls_certs_only([ca.unwrap_or_else(other)])
        .connect_timeout(Duration::from_millis(500))
        .timeout(Duration::from_millis(1_500));
    let builder = match proxy {
        Some(proxy) => builder.proxy(Proxy::all(proxy).expect("a proxy")),
        None => builder.no_proxy(),
    };
    builder.build().expect("a client")
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    // With the same name and different keys, the error would be a bad signature, not an unknown issuer.
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

fn self_signed(is_ca: bool) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("signed"), key)
}

/// Returns a port on which nothing listens.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Returns a port that accepts no connections because its backlog is full, and the connections that fill it.
async fn silent_port() -> (u16, Vec<TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let listener = socket.listen(1).expect("listens");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    std::mem::forget(listener);
    (address.port(), held)
}

async fn server<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    port
}

async fn read_some(stream: &mut TcpStream) {
    let _read = stream.read(&mut [0; 4_096]).await;
}
