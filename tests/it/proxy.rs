//! The proxy from the environment: it is used, logged, and rejected at startup if it is invalid.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::harness::{Program, run};

const SID: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "marked-secret-0123456789";

#[test]
fn an_invalid_proxy_exits_with_78_and_shows_no_secret() {
    for value in [
        "\"http://user:marked-secret@proxy:3128\"",
        "'http://proxy:3128'",
        "htp://user:marked-secret@proxy:3128",
        "socks5://user:marked-secret@proxy:1080",
        "socks5h://proxy",
        "http://proxy:port",
        "http://proxy:0",
        "http://",
        "http://user:marked/secret@proxy:3128",
    ] {
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let variables =
                [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", TOKEN), (name, value)];
            let ended = run(&["check-config"], &variables);
            assert_eq!(ended.code, Some(78), "{name}={value}: {ended:?}");
            let begin = format!("environment variable {name}: expected a proxy such as");
            assert!(ended.stderr.starts_with(&begin), "{}", ended.stderr);
            assert!(!ended.stderr.contains("marked"), "{}", ended.stderr);
        }
    }
    let variables =
        [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", TOKEN), ("HTTPS_PROXY", "htp://p")];
    let directory = TempDir::new().expect("a directory");
    let storage = format!("--storage.path={}", directory.path().join("data").display());
    let ended = run(&[&storage, "--web.listen-address=127.0.0.1:0"], &variables);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(!directory.path().join("data").exists(), "the store was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_only_through_the_logged_proxy() {
    // This machine, but not a loopback address: it receives requests that bypass the proxy.
    let twilio = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let twilio_port = twilio.local_addr().expect("an address").port();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = proxy.local_addr().expect("an address").to_string();
    let url = format!("http://user:marked%2Dsecret@{address}");
    let base = format!("https://0.0.0.0:{twilio_port}");
    let through = (Some(address.as_str()), "Twilio is reached through a proxy");
    let directly = (None, "Twilio is reached without the proxy: NO_PROXY names the host");
    for (variables, (used, message)) in [
        (&[("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "localhost,127.0.0.1")][..], through),
        (&[("https_proxy", &url)], through),
        (&[("ALL_PROXY", &url), ("HTTP_PROXY", "http://127.0.0.1:1")], through),
        (&[("HTTPS_PROXY", &url), ("https_proxy", "http://127.0.0.1:1")], through),
        (&[("HTTPS_PROXY", &url), ("no_proxy", "0.0.0.0/8")], directly),
        (&[("HTTPS_PROXY", &url), ("NO_PROXY", "*")], directly),
    ] {
        let mut all = BTreeMap::from([
            ("TWILIO_ACCOUNT_SID", SID),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("TWILIO_API_BASE_URL", &base),
        ]);
        all.extend(variables.iter().copied());
        let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let directory = Arc::new(TempDir::new().expect("a directory"));
        let program = Program::start(directory, all.collect(), Vec::new()).await;
        let (mut connection, is_proxy) = tokio::select! {
            connection = proxy.accept() => (connection.expect("a connection").0, true),
            connection = twilio.accept() => (connection.expect("a connection").0, false),
        };
        let mut begin = [0; 8];
        connection.read_exact(&mut begin).await.expect("a request");
        assert_eq!(is_proxy, used.is_some(), "{variables:?}");
        if is_proxy {
            assert_eq!(&begin, b"CONNECT ");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.expect("the rest"));
            }
            let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
            assert!(head.starts_with(&format!("0.0.0.0:{twilio_port} ")), "{head}");
            // user:marked-secret
            let expected = "proxy-authorization: basic dxnlcjptyxjrzwqtc2vjcmv0";
            assert!(head.contains(expected), "{head}");
        }
        let log = program.log();
        assert!(log.contains(message), "{variables:?}: {log}");
        assert!(log.contains(&format!("\"proxy\":\"{address}\"")), "{log}");
        assert!(!log.contains("user:") && !log.contains("marked"), "{log}");
        assert_eq!(program.stop().await.code(), Some(0));
        // Discard other connections before the next case.
        drop(connection);
        for listener in [&proxy, &twilio] {
            let listened = async { while listener.accept().await.is_ok() {} };
            let _none = tokio::time::timeout(std::time::Duration::ZERO, listened).await;
        }
    }
}
