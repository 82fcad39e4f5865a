//! Each cause, as the network really makes it on loopback.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Proxy};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::NoConnection::*;
use super::*;
use crate::twilio::client::install_crypto;
use crate::twilio::resolver::Resolver;

#[tokio::test]
async fn what_keeps_a_connection_from_twilio_is_told_apart() {
    let closed = closed_port().await;
    assert_eq!(cause(&format!("https://127.0.0.1:{closed}"), None).await, Refused);
    assert_eq!(cause("https://api.twilio.com.invalid", None).await, Dns);
    // A broadcast address: the kernel refuses it by itself.
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
async fn a_name_server_that_does_not_answer_is_no_host_that_does_not() {
    install_crypto();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .dns_resolver(Resolver::within(Duration::ZERO))
        .connect_timeout(Duration::from_secs(60))
        .build()
        .expect("a client");
    let error = client.get("http://api.twilio.com.invalid").send().await.expect_err("no name");
    assert_eq!(transport(&error), Error::Connect(Dns));
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_apart() {
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
        // As `openssl req -x509` makes it.
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
async fn a_server_that_asks_for_a_certificate_of_ours_is_told() {
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
            // What is left unread when it is dropped would reset the connection.
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
async fn what_a_proxy_does_is_told_apart_from_what_twilio_does() {
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
        // The tunnel stands, and what is at its other end is Twilio's.
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
async fn what_breaks_after_the_connection_is_no_failure_to_connect() {
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
            Ok(response) => response.bytes().await.expect_err("half an answer"),
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
    assert_eq!(transport(&sent.expect_err("no answer")), Error::Timeout);
}

async fn cause(url: &str, proxy: Option<&str>) -> NoConnection {
    let error = client(None, proxy).get(url).send().await.expect_err("no connection");
    let error = transport(&error);
    let Error::Connect(cause) = error else { panic!("{error} for {url} through {proxy:?}") };
    cause
}

/// A client that trusts one authority, or one that signed nothing here.
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
    // Authorities of one name and different keys are a bad signature, and not an unknown issuer.
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

/// A port on which nothing listens.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A port that takes no more connections, and what keeps it so: its backlog is full.
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
