//! The client of Twilio's REST API.
//!
//! Each method sends one request. The poller does the retrying, pacing and counting.

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
use super::response::{
    LargeBodies, concurrent_requests, content_type, header, read_body, status_error,
};
use super::wire;

/// The maximum size of a response in bytes, decompressed: a page of 1,000 events with bodies of 16 kB.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// The maximum length of a link to a next page in bytes. Twilio's have a few hundred, and the links of a list
/// are kept in memory.
const MAX_NEXT_PAGE_BYTES: usize = 4_096;

/// The SID of an account or API key, and its secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AC…` or `SK…`.
    pub username: String,
    /// The auth token or the API key's secret.
    pub secret: SecretString,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

/// How to connect to Twilio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The time limit for establishing a connection.
    pub connect_timeout: Duration,
    /// The time limit for a whole request.
    pub timeout: Duration,
    /// Additional root certificates (PEM).
    pub ca_pem: Option<Vec<u8>>,
    /// The proxy, and the hosts that are reached without it.
    pub proxy: Option<Proxy>,
}

/// TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub struct BuildError(#[from] reqwest::Error);

/// A client of Twilio's REST API, for one set of credentials.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// The base URL of the error log.
    monitor: Url,
    credentials: Credentials,
    large_bodies: LargeBodies,
}

impl Client {
    /// Creates a client without connecting. Clients with the same `large_bodies` share its limit.
    ///
    /// # Errors
    /// Returns [`BuildError`] if TLS can't be set up.
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
            .dns_resolver(Resolver::new(options.connect_timeout))
            .timeout(options.timeout);
        // In both cases reqwest ignores the environment's proxy settings.
        builder = match options.proxy.as_ref().filter(|proxy| proxy.path_to(base) == Path::Proxy) {
            Some(proxy) => builder.proxy(proxy.for_client()?),
            None => builder.no_proxy(),
        };
        let (base, monitor) = (base.url().clone(), base.monitor());
        if base.scheme() == "http" {
            // Without TLS, no certificates are needed: the demo also runs on a machine that has none.
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = &options.ca_pem {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self { http: builder.build()?, base, monitor, credentials, large_bodies })
    }

    /// Fetches a page of a list of calls.
    ///
    /// Source: <https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources>.
    pub async fn list_calls(
        &self,
        account: AccountSid,
        filter: Filter,
        page: &PageRequest,
    ) -> Answer<Page<Call>> {
        let filter = match filter {
            Filter::StartedFrom(at) => Some(("StartTime>", format_second(at))),
            Filter::EndedFrom(at) => Some(("EndTime>", format_second(at))),
            Filter::StartedOn(day) => Some(("StartTime", format_day(day))),
            Filter::EndedOn(day) => Some(("EndTime", format_day(day))),
            Filter::Status(status) => Some(("Status", status.as_str().to_owned())),
            Filter::Everything => None,
        };
        let path = format!("2010-04-01/Accounts/{account}/Calls.json");
        let list = List { resource: Resource::Calls, base: &self.base, path, filter };
        self.get_page(list, page, wire::decode_call).await
    }

    /// Fetches one call.
    pub async fn fetch_call(&self, account: AccountSid, call: CallSid) -> Answer<Call> {
        let url =
            join_path(&self.base, &format!("2010-04-01/Accounts/{account}/Calls/{call}.json"));
        let read = |text: &str| {
            let raw = serde_json::from_str(text).ok().map(wire::RawItem::new);
            raw.and_then(|item| wire::decode_call(&item))
        };
        self.get(Resource::Call, Ok(url), read).await
    }

    /// Fetches a page of a call's events. Each item is dropped after `judge` returns.
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

    /// Fetches a page of the list of the account and its subaccounts.
    ///
    /// Source: <https://www.twilio.com/docs/iam/api/account>.
    pub async fn list_accounts(&self, page: &PageRequest) -> Answer<Page<ListedAccount>> {
        let path = "2010-04-01/Accounts.json".to_owned();
        let list = List { resource: Resource::Accounts, base: &self.base, path, filter: None };
        self.get_page(list, page, wire::decode_account).await
    }

    /// Fetches a page of the authenticated account's error log, starting at `from`. Each entry is dropped
    /// after `judge` returns.
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
            filter: Some(("StartDate", format_second(from))),
        };
        self.get_page(list, page, |item| Some(judge(&wire::decode_logged_error(item)?))).await
    }

    /// Resolves the link to a list's next page (RFC 3986, section 5). It must lead to the same list, so that
    /// credentials aren't sent elsewhere and another account's calls aren't read.
    fn resolve(base: &Url, list: &Url, next: &str) -> Result<Url, Error> {
        if next.len() > MAX_NEXT_PAGE_BYTES {
            return Err(Error::ForeignNextPage);
        }
        let mut url = base.join(next).map_err(|_| Error::ForeignNextPage)?;
        if is_monitor(&url) && !is_monitor(base) {
            // Behind a reverse proxy, the error log's links still point to Twilio's host: keep only path and
            // query.
            let mut rewritten = base.clone();
            rewritten.set_path(url.path());
            rewritten.set_query(url.query());
            url = rewritten;
        }
        let is_same_origin = url.scheme() == list.scheme()
            && url.host() == list.host()
            && url.port_or_known_default() == list.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none();
        // Behind a reverse proxy with a path prefix, Twilio's links have paths without the prefix.
        let prefix = base.path().trim_end_matches('/');
        let is_same_list =
            url.path() == list.path() || list.path().strip_prefix(prefix) == Some(url.path());
        if !is_same_origin || !is_same_list {
            return Err(Error::ForeignNextPage);
        }
        url.set_path(list.path());
        Ok(url)
    }

    /// Returns the next page of a list, given the link to it.
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
        let first = join_path(list.base, &list.path);
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
            let page = wire::Page::split(text)?;
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
        let started = Instant::now();
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
        attempt.took = started.elapsed();
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
            return Err(status_error(response, &self.large_bodies).await);
        }
        let content_type = content_type(response.headers());
        let body = read_body(response, MAX_BODY_BYTES, &self.large_bodies).await?;
        read(&wire::text_of(&body.bytes)).ok_or(Error::Malformed { content_type })
    }
}

/// A list in Twilio's API.
struct List<'a> {
    resource: Resource,
    base: &'a Url,
    path: String,
    /// The query parameter that selects items.
    filter: Option<(&'static str, String)>,
}

/// Appends a path to a base URL.
fn join_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let prefix = base.path().trim_end_matches('/');
    url.set_path(&format!("{prefix}/{path}"));
    url
}

/// Whether a URL is on a host of Twilio's error log.
fn is_monitor(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.starts_with("monitor.") && host.ends_with(".twilio.com")
}

/// Formats an instant for Twilio's filters, in whole seconds.
fn format_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a day (UTC) for Twilio's filters.
fn format_day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Returns a page's position in its list, independent of how its URL is written: the parameters that
/// determine it, sorted. Empty for the first page of a list without filters.
fn position(page: &Url) -> String {
    // A page of another size at the same position returns the same items again.
    let is_relevant = |name: &str, value: &str| match name {
        "PageSize" => false,
        "Page" => !value.is_empty() && value.parse() != Ok(0_u64),
        _ => !value.is_empty(),
    };
    let pairs = page.query_pairs().filter(|(name, value)| is_relevant(name, value));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Whether TLS can be set up with these PEM certificates.
pub(crate) fn are_certificates(pem: &[u8]) -> bool {
    install_crypto();
    let are_usable = |certificates: Vec<Certificate>| {
        !certificates.is_empty()
            && reqwest::Client::builder().tls_certs_only(certificates).build().is_ok()
    };
    Certificate::from_pem_bundle(pem).is_ok_and(are_usable)
}

/// Makes rustls use ring in the whole process: reqwest is built without a cryptography provider.
pub fn install_crypto() {
    // Fails only if a provider is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
