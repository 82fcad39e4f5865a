//! One account's connection to Twilio's REST API.
//!
//! Each function is one request and one answer: retrying, pacing and counting are the poller's.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::DATE;
use reqwest::{Certificate, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::engine::request::{NextPage, Page, PageRequest, Resource};
use crate::domain::track::listing::Filter;
use crate::domain::words::account::ListedAccount;
use crate::domain::words::call::Call;
use crate::domain::words::error_log::LoggedError;
use crate::domain::words::sid::{AccountSid, CallSid};

use super::answer::{Answer, Attempt};
use super::base_url::BaseUrl;
use super::cause::transport;
use super::error::Error;
use super::proxy::{Path, Proxy};
use super::resolver::Resolver;
use super::response::{LargeBodies, concurrent_requests, content_type, header, read_body, refusal};
use super::wire;

/// Most bytes of an answer, decompressed: a page of 1,000 events with bodies of 16 kB.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Longest next page that is followed: Twilio's have some hundred bytes, and those of a list are kept.
const MAX_NEXT_PAGE_BYTES: usize = 4_096;

/// Who asks: an account SID or API key SID, and its secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AC…` or `SK…`.
    pub username: String,
    /// Auth token or API key secret.
    pub secret: SecretString,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Most time for a connection.
    pub connect_timeout: Duration,
    /// Most time for a whole request.
    pub timeout: Duration,
    /// Further root certificates (PEM).
    pub ca_pem: Option<Vec<u8>>,
    /// The proxy, with the hosts that are reached without it.
    pub proxy: Option<Proxy>,
}

/// Why a client can't be made: TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub struct BuildError(#[from] reqwest::Error);

/// A connection to Twilio for one set of credentials.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// Where the error log is.
    monitor: Url,
    credentials: Credentials,
    large_bodies: LargeBodies,
}

impl Client {
    /// Prepares a client; connects to nothing yet. What is shared for answers that are large comes from
    /// outside.
    ///
    /// # Errors
    /// [`BuildError`] without TLS.
    pub fn new(
        base: &BaseUrl,
        credentials: Credentials,
        options: &ClientOptions,
        large_bodies: LargeBodies,
    ) -> Result<Self, BuildError> {
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("twilio-call-exporter/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .https_only(!base.is_loopback())
            .connect_timeout(options.connect_timeout)
            .dns_resolver(Resolver::within(options.connect_timeout))
            .timeout(options.timeout);
        // Either way the environment isn't asked again.
        builder = match options.proxy.as_ref().filter(|proxy| proxy.path_to(base) == Path::Proxy) {
            Some(proxy) => builder.proxy(proxy.for_client()?),
            None => builder.no_proxy(),
        };
        let (base, monitor) = (base.url().clone(), base.monitor());
        if base.scheme() == "http" {
            // No TLS, so no certificates: a machine without any can still run the demo.
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = &options.ca_pem {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self { http: builder.build()?, base, monitor, credentials, large_bodies })
    }

    /// Lists calls: a page of a list.
    ///
    /// Source: <https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources>.
    pub async fn list_calls(
        &self,
        account: AccountSid,
        filter: Filter,
        page: &PageRequest,
    ) -> Answer<Page<Call>> {
        let filter = match filter {
            Filter::StartedFrom(at) => Some(("StartTime>", second(at))),
            Filter::EndedFrom(at) => Some(("EndTime>", second(at))),
            Filter::Status(status) => Some(("Status", status.as_str().to_owned())),
            Filter::Everything => None,
        };
        let path = format!("2010-04-01/Accounts/{account}/Calls.json");
        let list = List { resource: Resource::Calls, base: &self.base, path, filter };
        self.get_page(list, page, wire::decode_call).await
    }

    /// Fetches one call.
    pub async fn fetch_call(&self, account: AccountSid, call: CallSid) -> Answer<Call> {
        let url = under(&self.base, &format!("2010-04-01/Accounts/{account}/Calls/{call}.json"));
        let read = |text: &str| {
            let raw = serde_json::from_str(text).ok().map(wire::RawItem::new);
            raw.and_then(|item| wire::decode_call(&item))
        };
        self.get(Resource::Call, Ok(url), read).await
    }

    /// Reads a page of a call's events. Each item exists only while `judge` looks at it.
    ///
    /// Source: <https://www.twilio.com/docs/voice/api/call-event-resource>.
    pub async fn call_events<T>(
        &self,
        account: AccountSid,
        call: CallSid,
        page: &PageRequest,
        judge: impl Fn(&wire::RawItem<'_>) -> T,
    ) -> Answer<Page<T>> {
        let path = format!("2010-04-01/Accounts/{account}/Calls/{call}/Events.json");
        let list = List { resource: Resource::CallEvents, base: &self.base, path, filter: None };
        self.get_page(list, page, |item| Some(judge(item))).await
    }

    /// Lists the account and its subaccounts: a page of the list.
    ///
    /// Source: <https://www.twilio.com/docs/iam/api/account>.
    pub async fn list_accounts(&self, page: &PageRequest) -> Answer<Page<ListedAccount>> {
        let path = "2010-04-01/Accounts.json".to_owned();
        let list = List { resource: Resource::Accounts, base: &self.base, path, filter: None };
        self.get_page(list, page, wire::decode_account).await
    }

    /// Lists the error log of the account that authenticates, from an instant on: a page of the list. Each
    /// entry exists only while `judge` looks at it.
    ///
    /// Source: <https://www.twilio.com/docs/usage/monitor-alert#read-multiple-alert-resources>.
    pub async fn error_log<T>(
        &self,
        from: Timestamp,
        page: &PageRequest,
        judge: impl Fn(&LoggedError) -> T,
    ) -> Answer<Page<T>> {
        let list = List {
            resource: Resource::ErrorLog,
            base: &self.monitor,
            path: "v1/Alerts".to_owned(),
            filter: Some(("StartDate", second(from))),
        };
        self.get_page(list, page, |item| Some(judge(&wire::decode_logged_error(item)?))).await
    }

    /// A next page of a list (RFC 3986, section 5). It must be a page of the same list: credentials go
    /// nowhere else, and the calls of another account are not ours.
    fn resolve(base: &Url, list: &Url, next: &str) -> Result<Url, Error> {
        if next.len() > MAX_NEXT_PAGE_BYTES {
            return Err(Error::ForeignNextPage);
        }
        let mut url = base.join(next).map_err(|_| Error::ForeignNextPage)?;
        if is_monitor(&url) && !is_monitor(base) {
            // Behind a proxy, Twilio's error log still names its own host: only the rest of it is taken.
            let mut ours = base.clone();
            ours.set_path(url.path());
            ours.set_query(url.query());
            url = ours;
        }
        let is_same_origin = url.scheme() == list.scheme()
            && url.host() == list.host()
            && url.port_or_known_default() == list.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none();
        // Behind a proxy with a path of its own, Twilio still gives its own paths.
        let prefix = base.path().trim_end_matches('/');
        let is_same_list =
            url.path() == list.path() || list.path().strip_prefix(prefix) == Some(url.path());
        if !is_same_origin || !is_same_list {
            return Err(Error::ForeignNextPage);
        }
        url.set_path(list.path());
        Ok(url)
    }

    /// What follows a page of a list, by what it says itself.
    fn next_page(base: &Url, list: &Url, next: Option<String>) -> NextPage {
        let Some(link) = next else { return NextPage::End };
        match Self::resolve(base, list, &link) {
            Ok(url) => NextPage::At { position: position(&url), link },
            Err(_) => NextPage::Foreign,
        }
    }

    async fn get_page<T>(
        &self,
        list: List<'_>,
        page: &PageRequest,
        decode: impl Fn(&wire::RawItem<'_>) -> Option<T>,
    ) -> Answer<Page<T>> {
        let first = under(list.base, &list.path);
        let url = match &page.next {
            Some(next) => Self::resolve(list.base, &first, next),
            None => {
                let mut url = first.clone();
                url.query_pairs_mut()
                    .extend_pairs(list.filter)
                    .append_pair("PageSize", &page.size.to_string());
                Ok(url)
            }
        };
        self.get(list.resource, url, |text| {
            let page = wire::Page::cut(text)?;
            let items: Vec<T> = page.items.iter().filter_map(decode).collect();
            let rejected = u64::try_from(page.items.len() - items.len()).unwrap_or(u64::MAX);
            Some(Page { items, rejected, next: Self::next_page(list.base, &first, page.next_page) })
        })
        .await
    }

    async fn get<T>(
        &self,
        resource: Resource,
        url: Result<Url, Error>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Answer<T> {
        let began = Instant::now();
        let mut attempt = Attempt {
            resource,
            code: None,
            took: Duration::ZERO,
            answered: None,
            date: None,
            concurrent_requests: None,
        };
        let url = match url {
            Ok(url) => url,
            Err(error) => return Answer { attempt: None, result: Err(error) },
        };
        let result = self.send(url, &mut attempt, read).await;
        attempt.took = began.elapsed();
        Answer { attempt: Some(attempt), result }
    }

    async fn send<T>(
        &self,
        url: Url,
        attempt: &mut Attempt,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let secret = self.credentials.secret.expose_secret();
        let request = self.http.get(url).basic_auth(&self.credentials.username, Some(secret));
        let response = request.send().await.map_err(|error| transport(&error))?;
        let status = response.status();
        attempt.code = Some(status.as_u16());
        attempt.answered = Some(Instant::now());
        attempt.date = header(response.headers(), DATE.as_str()).and_then(wire::parse_date);
        attempt.concurrent_requests =
            header(response.headers(), "twilio-concurrent-requests").and_then(concurrent_requests);
        if status != StatusCode::OK {
            return Err(refusal(response, &self.large_bodies).await);
        }
        let content_type = content_type(response.headers());
        let body = read_body(response, MAX_BODY_BYTES, &self.large_bodies).await?;
        read(&wire::text_of(&body.bytes)).ok_or(Error::Malformed { content_type })
    }
}

/// A list of Twilio's.
struct List<'a> {
    resource: Resource,
    base: &'a Url,
    path: String,
    /// The parameter that says which items are wanted.
    filter: Option<(&'static str, String)>,
}

/// A resource below a base URL.
fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let prefix = base.path().trim_end_matches('/');
    url.set_path(&format!("{prefix}/{path}"));
    url
}

/// Whether a URL is of Twilio's error log.
fn is_monitor(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.starts_with("monitor.") && host.ends_with(".twilio.com")
}

/// An instant as Twilio's filters take it.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Where in its list a page is, however its URL is written: the parameters that place it, sorted. Empty
/// for the first page of a list without filters.
fn position(page: &Url) -> String {
    // A page of another size at the same place shows the same items again.
    let places = |name: &str, value: &str| match name {
        "PageSize" => false,
        "Page" => !value.is_empty() && value.parse() != Ok(0_u64),
        _ => !value.is_empty(),
    };
    let pairs = page.query_pairs().filter(|(name, value)| places(name, value));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Whether a text is certificates in PEM that TLS can be set up with.
pub(crate) fn are_certificates(pem: &[u8]) -> bool {
    install_crypto();
    let are_usable = |certificates: Vec<Certificate>| {
        !certificates.is_empty()
            && reqwest::Client::builder().tls_certs_only(certificates).build().is_ok()
    };
    Certificate::from_pem_bundle(pem).is_ok_and(are_usable)
}

/// Makes rustls use ring, for the whole process: reqwest brings no cryptography of its own.
pub fn install_crypto() {
    // Fails only where it is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
