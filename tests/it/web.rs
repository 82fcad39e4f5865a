//! The HTTP server: TLS, basic authentication, the web configuration, and hostile clients.

mod hostile;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::harness::{Program, Prometheus, eventually, run};

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_basic_auth_only_probes_need_no_credentials() {
    let server = TlsProgram::start(&users()).await;
    let client = server.client(None);
    // Orchestrators send their probes without credentials.
    for path in ["/-/healthy", "/-/ready"] {
        let url = format!("https://localhost:{}{path}", server.port());
        assert_eq!(client.get(&url).send().await.expect("a response").status(), 200, "{path}");
    }
    for path in ["/metrics", "/", "/failures", "/-/reload", "/nowhere"] {
        let url = format!("https://localhost:{}{path}", server.port());
        let refused = client.get(&url).send().await.expect("a response");
        assert_eq!(refused.status(), 401, "{path}");
        assert_eq!(refused.headers()["www-authenticate"], "Basic", "{path}");
        let wrong = client.get(&url).basic_auth("prometheus", Some("wrong")).send().await;
        assert_eq!(wrong.expect("a response").status(), 401, "{path}");
        let right = client.get(&url).basic_auth("prometheus", Some("secret word")).send().await;
        let expected = match path {
            "/nowhere" => 404,
            "/-/reload" => 405,
            _ => 200,
        };
        let right = right.expect("a response");
        assert_eq!(right.status(), expected, "{path}");
        assert_eq!(right.headers()["strict-transport-security"], "max-age=1", "{path}");
    }
    // Plain HTTP doesn't bypass authentication.
    let plain = format!("http://localhost:{}/metrics", server.port());
    assert!(client.get(plain).send().await.is_err());
    assert!(!server.program.log().contains("secret word"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_without_a_restart_and_an_invalid_one_is_ignored() {
    let server = TlsProgram::start("").await;
    assert_eq!(server.status(&server.client(None)).await, Some(200));
    std::fs::write(server.path("cert.pem"), "no certificate").expect("written");
    eventually("the invalid certificate is logged", async || {
        server.program.log().contains("cannot reload the web configuration").then_some(())
    })
    .await;
    assert_eq!(
        server.status(&server.client(None)).await,
        Some(200),
        "the previous certificate is served"
    );
    let renewed = Authority::new();
    renewed.issue(server.directory.path(), "", "localhost");
    std::fs::write(server.path("other.pem"), renewed.0.pem()).expect("written");
    eventually("the renewed certificate is served", async || {
        server
            .status(&server.client_trusting("other.pem", None))
            .await
            .filter(|status| *status == 200)
    })
    .await;
    assert_eq!(
        server.status(&server.client(None)).await,
        None,
        "the old certificate is still served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_required_certificate_connect() {
    let tls = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let server = TlsProgram::start(tls).await;
    assert_eq!(server.status(&server.client(None)).await, None);
    server.authority.issue(server.directory.path(), "client-", "prometheus");
    let pem = [server.path("client-cert.pem"), server.path("client-key.pem")]
        .map(|path| std::fs::read_to_string(path).expect("PEM"));
    assert_eq!(server.status(&server.client(Some(&pem.concat()))).await, Some(200));
    let stranger = TempDir::new().expect("a directory");
    Authority::new().issue(stranger.path(), "", "prometheus");
    let pem = ["cert.pem", "key.pem"]
        .map(|name| std::fs::read_to_string(stranger.path().join(name)).expect("PEM"));
    assert_eq!(server.status(&server.client(Some(&pem.concat()))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn stricter_client_authentication_ends_existing_connections() {
    let server = TlsProgram::start("").await;
    let connected = server.client(None);
    assert_eq!(server.status(&connected).await, Some(200));
    let stricter = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    std::fs::write(server.path("web.yml"), stricter).expect("written");
    eventually("the existing connection is closed", async || {
        // Frequent requests keep the connection from idling out.
        server.status(&connected).await.is_none().then_some(())
    })
    .await;
    assert!(server.program.log().contains("web configuration reloaded"));
}

#[test]
fn all_problems_of_a_web_configuration_are_reported() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("web.yml");
    let flag = format!("--web.config.file={}", file.display());
    let sid = "AC00000000000000000000000000000000";
    let variables = [("TWILIO_ACCOUNT_SID", sid), ("TWILIO_AUTH_TOKEN", "a-token")];
    for (text, messages) in [
        ("nonsense: 1", &["web.yml: unknown key of 8 characters"][..]),
        (
            "tls_server_config: { cert_file: none.pem }",
            &[
                "tls_server_config.cert_file: cannot read",
                "/…` (",
                "tls_server_config.key_file",
                "is missing",
            ],
        ),
        ("tls_server_config: { cert: x, key: x }", &["cert: contains no certificate in PEM"]),
        (
            "tls_server_config: { cert: x, key: x, min_version: TLS10 }",
            &["tls_server_config.min_version", "TLS12"],
        ),
        (
            "tls_server_config: { cert: x, key: x, min_version: TLS13, max_version: TLS12 }",
            &["newer than max_version"],
        ),
        (
            "tls_server_config: { cert: x, key: x, client_auth_type: RequireAnyClientCert }",
            &["client_auth_type", "RequireAndVerifyClientCert"],
        ),
        (
            "tls_server_config: { cert: x, key: x, client_auth_type: RequireAndVerifyClientCert }",
            &["client_ca_file", "is missing"],
        ),
        (
            "tls_server_config: { cert: x, key: x, cipher_suites: [ A ] }",
            &["cipher_suites", "is not supported"],
        ),
        ("basic_auth_users: { prometheus: opensesame1234567 }", &["basic_auth_users", "bcrypt"]),
        (
            "http_server_config: { headers: { X-Custom: a } }",
            &[
                "http_server_config.headers: unknown key of 8 characters",
                "Strict-Transport-Security",
            ],
        ),
        ("rate_limit: { burst: 1 }", &["rate_limit", "is not supported"]),
        ("tls_server_config: [", &["web.yml:1", "invalid YAML"]),
    ] {
        std::fs::write(&file, text).expect("written");
        let ended = run(&["check-config", &flag], &variables);
        assert_eq!(ended.code, Some(78), "{text}: {}", ended.stderr);
        for message in messages {
            assert!(ended.stderr.contains(message), "{text}: {message}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("opensesame"), "{}", ended.stderr);
    }
    let missing = run(&["check-config", "--web.config.file=/nowhere.yml"], &variables);
    assert_eq!(missing.code, Some(78));
    assert!(
        missing.stderr.contains("--web.config.file, `/…` (12 characters)"),
        "{}",
        missing.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and promtool, from Debian's package prometheus"]
async fn prometheus_scrapes_over_tls_with_basic_auth_and_promtool_accepts_the_file() {
    let server = TlsProgram::start(&users()).await;
    let checked =
        Command::new("promtool").args(["check", "web-config"]).arg(server.path("web.yml")).output();
    let checked = checked.expect("promtool runs");
    assert!(checked.status.success(), "{checked:?}");
    let settings = format!(
        "    scheme: https\n    tls_config: {{ ca_file: '{}', server_name: localhost }}\n    basic_auth: {{ username: prometheus, password: 'secret word' }}\n",
        server.path("ca.pem").display()
    );
    let prometheus = Prometheus::scraping_with(&server.program, &settings).await;
    assert_eq!(prometheus.query("min_over_time(up[5s])").await, Some(1.0));
}

/// Web configuration with the user `prometheus`, whose password is `secret word`.
fn users() -> String {
    let hash = bcrypt::hash("secret word", 6).expect("a hash");
    format!(
        "basic_auth_users: {{ prometheus: '{hash}' }}\nhttp_server_config: {{ headers: {{ Strict-Transport-Security: max-age=1 }} }}\n"
    )
}

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Issues a certificate, and writes it and its key to a directory.
    fn issue(&self, directory: &Path, prefix: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        // Between the two writes, key and certificate don't match: the program must keep the old pair.
        for (file, text) in [("key.pem", key.serialize_pem()), ("cert.pem", certificate.pem())] {
            std::fs::write(directory.join(format!("{prefix}{file}")), text).expect("written");
        }
    }
}

/// A program that serves HTTPS. It polls an unreachable Twilio.
struct TlsProgram {
    program: Program,
    directory: Arc<TempDir>,
    authority: Authority,
}

impl TlsProgram {
    /// Starts with `more` appended to the web configuration; indented lines belong to `tls_server_config`.
    async fn start(more: &str) -> Self {
        let directory = Arc::new(TempDir::new().expect("a directory"));
        let authority = Authority::new();
        authority.issue(directory.path(), "", "localhost");
        std::fs::write(directory.path().join("ca.pem"), authority.0.pem()).expect("written");
        let file = directory.path().join("web.yml");
        let text =
            format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{more}");
        std::fs::write(&file, text).expect("written");
        let variables = [
            ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000000"),
            ("TWILIO_AUTH_TOKEN", "a-token"),
            ("TWILIO_API_BASE_URL", "http://127.0.0.1:9"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let arguments = vec![format!("--web.config.file={}", file.display())];
        let program =
            Program::start(Arc::clone(&directory), BTreeMap::from(variables), arguments).await;
        Self { program, directory, authority }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn port(&self) -> &str {
        self.program.address().rsplit(':').next().expect("a port")
    }

    /// Returns a client that trusts the authority, with an optional client certificate and key in PEM.
    fn client(&self, identity: Option<&str>) -> reqwest::Client {
        self.client_trusting("ca.pem", identity)
    }

    /// The same, trusting the authority in another file.
    fn client_trusting(&self, authority: &str, identity: Option<&str>) -> reqwest::Client {
        let pem = std::fs::read(self.path(authority)).expect("PEM");
        let authority = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        if let Some(pem) = identity {
            builder =
                builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("an identity"));
        }
        builder.build().expect("a client")
    }

    /// The status of a response, or `None` if the connection fails.
    async fn status(&self, client: &reqwest::Client) -> Option<u16> {
        let url = format!("https://localhost:{}/-/healthy", self.port());
        client.get(url).send().await.ok().map(|response| response.status().as_u16())
    }
}
