//! The HTTP API: routes, authentication, faults, headers. Each request is answered from the world at the
//! clock's current time. The only state is the behaviour, the number of requests, and the cached sums of the
//! truth.

mod alerts;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Clock;
use super::auth::AuthenticatedClient;
use super::behaviour::Behaviour;
use super::draft::Detail;
use super::late_and_redacted;
use super::listing::{Filter, PageRequest, list_calls};
use super::random::hash;
use super::resource::{self, Page};
use super::truth::{Sums, Truth};
use super::world::World;

/// State shared by all requests.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) clock: Clock,
    behaviour: RwLock<Behaviour>,
    sums: Mutex<Sums>,
    in_flight: Vec<AtomicU32>,
    requests: AtomicU64,
}

impl Shared {
    pub(crate) fn new(world: World, clock: Clock) -> Shared {
        Shared {
            in_flight: world.accounts().iter().map(|_| AtomicU32::new(0)).collect(),
            world,
            clock,
            behaviour: RwLock::default(),
            sums: Mutex::default(),
            requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.behaviour.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.write().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    pub(crate) fn truth(&self, now: Timestamp) -> Truth {
        let visibility = self.behaviour().visibility();
        let mut sums: MutexGuard<'_, Sums> =
            self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.truth(&self.world, now, visibility)
    }
}

type Api = std::sync::Arc<Shared>;
type Pairs = Vec<(String, String)>;

pub(crate) fn router(shared: Api) -> Router {
    Router::new()
        .route("/_simulator/truth", get(show_truth))
        .route("/_simulator/behaviour", get(show_behaviour).post(replace_behaviour))
        .fallback(answer)
        .with_state(shared)
}

async fn show_truth(State(shared): State<Api>) -> Response {
    json_response(StatusCode::OK, &shared.truth((shared.clock)()))
}

async fn show_behaviour(State(shared): State<Api>) -> Response {
    json_response(StatusCode::OK, &shared.behaviour())
}

async fn replace_behaviour(State(shared): State<Api>, body: String) -> Response {
    match serde_json::from_str::<Behaviour>(&body) {
        Ok(behaviour) => {
            shared.set_behaviour(behaviour.clone());
            json_response(StatusCode::OK, &behaviour)
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_string(value).expect("the keys of these types are strings");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The resource that a path of Twilio's API names.
#[derive(Clone, Copy, Debug)]
enum Resource<'a> {
    Accounts,
    Account { account: &'a str },
    Calls { account: &'a str },
    Call { account: &'a str, call: &'a str },
    Events { account: &'a str, call: &'a str },
    Alerts,
}

impl<'a> Resource<'a> {
    fn from_path(path: &'a str) -> Option<Resource<'a>> {
        if path == "/v1/Alerts" {
            return Some(Resource::Alerts);
        }
        let path = path.strip_prefix("/2010-04-01/")?.strip_suffix(".json")?;
        match path.split('/').collect::<Vec<_>>()[..] {
            ["Accounts"] => Some(Resource::Accounts),
            ["Accounts", account] => Some(Resource::Account { account }),
            ["Accounts", account, "Calls"] => Some(Resource::Calls { account }),
            ["Accounts", account, "Calls", call] => Some(Resource::Call { account, call }),
            ["Accounts", account, "Calls", call, "Events"] => {
                Some(Resource::Events { account, call })
            }
            _ => None,
        }
    }

    fn account(self) -> Option<&'a str> {
        match self {
            Resource::Accounts | Resource::Alerts => None,
            Resource::Account { account }
            | Resource::Calls { account }
            | Resource::Call { account, .. }
            | Resource::Events { account, .. } => Some(account),
        }
    }
}

/// An error response.
#[derive(Debug)]
struct ApiError {
    status: u16,
    code: u32,
    message: String,
}

impl ApiError {
    fn new(status: u16, code: u32, message: &str) -> ApiError {
        ApiError { status, code, message: message.to_owned() }
    }

    fn unauthenticated() -> ApiError {
        ApiError::new(401, 20003, "Authenticate")
    }

    fn not_found(path: &str) -> ApiError {
        let message = format!("The requested resource {path} was not found");
        ApiError { status: 404, code: 20404, message }
    }
}

/// A request in flight, until dropped.
struct InFlight<'a>(&'a AtomicU32);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request, with everything needed to answer it.
struct Request<'a> {
    shared: &'a Shared,
    behaviour: &'a Behaviour,
    /// The request's number, which decides everything that depends on chance.
    number: u64,
    path: &'a str,
    query: &'a [(String, String)],
}

async fn answer(
    State(shared): State<Api>,
    method: axum::http::Method,
    uri: Uri,
    Query(query): Query<Pairs>,
    headers: HeaderMap,
) -> Response {
    let behaviour = shared.behaviour();
    let request = Request {
        shared: &shared,
        behaviour: &behaviour,
        number: shared.requests.fetch_add(1, Ordering::Relaxed),
        path: uri.path(),
        query: &query,
    };
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut concurrent = 1;
    let result = if method == axum::http::Method::GET {
        request.answer(authorization, &mut concurrent).await
    } else {
        Err(ApiError::new(405, 20004, "Method not allowed"))
    };
    let (status, content_type, body) = match result {
        Ok(_) if request.chance(3) < behaviour.html_instead => {
            (200, "text/html", "<html><body><h1>Please wait</h1></body></html>".to_owned())
        }
        Ok(value) => (200, "application/json", request.truncate(value.to_string())),
        Err(error) => {
            let body = resource::error(error.status, error.code, &error.message);
            (error.status, "application/json", body.to_string())
        }
    };
    let now = (shared.clock)();
    let skew = SignedDuration::from_secs(behaviour.date_skew_seconds);
    let date = now.checked_add(skew).unwrap_or(now).strftime("%a, %d %b %Y %H:%M:%S GMT");
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::DATE, date.to_string()),
        (HeaderName::from_static("twilio-concurrent-requests"), concurrent.to_string()),
        (HeaderName::from_static("twilio-request-duration"), "0.003".to_owned()),
        (HeaderName::from_static("twilio-request-id"), format!("RQ{:032x}", request.number)),
    ];
    let status = StatusCode::from_u16(status).expect("each error has a valid HTTP status");
    (status, headers, body).into_response()
}

impl Request<'_> {
    async fn answer(
        &self,
        authorization: Option<&str>,
        concurrent: &mut u32,
    ) -> Result<Value, ApiError> {
        let world = &self.shared.world;
        if self.behaviour.outage {
            return Err(ApiError::new(503, 20503, "Service Unavailable"));
        }
        let client =
            authorization.and_then(|value| AuthenticatedClient::authenticate(world, value));
        let client = client.ok_or_else(ApiError::unauthenticated)?;
        let resource =
            Resource::from_path(self.path).ok_or_else(|| ApiError::not_found(self.path))?;
        let account = match resource.account() {
            Some(sid) => world.account_index(sid).ok_or_else(|| ApiError::not_found(self.path))?,
            None => client.account,
        };
        let is_refused = self.behaviour.unauthorized.contains(&world.accounts()[account].sid);
        if is_refused || !client.may_see(world, account) {
            return Err(ApiError::unauthenticated());
        }
        *concurrent = self.shared.in_flight[account].fetch_add(1, Ordering::Relaxed) + 1;
        let _in_flight = InFlight(&self.shared.in_flight[account]);
        if self.behaviour.max_concurrent.is_some_and(|limit| *concurrent > limit) {
            return Err(ApiError::new(429, 20429, "Too Many Requests"));
        }
        if self.chance(1) < self.behaviour.stall.permille {
            tokio::time::sleep(Duration::from_secs(self.behaviour.stall.seconds)).await;
        }
        if self.chance(2) < self.behaviour.error_rate {
            return Err(ApiError::new(500, 20500, "An internal server error has occurred"));
        }
        // Time has passed after a stall: answer with the world at the time of the response.
        self.read(resource, client, account, (self.shared.clock)())
    }

    fn read(
        &self,
        resource: Resource<'_>,
        client: AuthenticatedClient,
        account: usize,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let world = &self.shared.world;
        let find = |sid, detail| {
            world.find(account, sid, now, detail).ok_or_else(|| ApiError::not_found(self.path))
        };
        match resource {
            Resource::Accounts => self.accounts(client),
            Resource::Alerts => self.alerts(account, now),
            Resource::Account { .. } => Ok(resource::account(world, &world.accounts()[account])),
            Resource::Calls { .. } => self.calls(account, now),
            Resource::Call { call, .. } => Ok(resource::call(&find(call, Detail::Outline)?, now)),
            Resource::Events { call, .. } => {
                if self.behaviour.missing_permission {
                    let message = "Authorization Error: required permission \
                                   twilio/voice/request-inspector/read is missing";
                    return Err(ApiError::new(401, 70051, message));
                }
                let call = find(call, Detail::Full)?;
                let mut items = late_and_redacted::events(&call, self.behaviour, now);
                if self.chance(5) < self.behaviour.shrink_events {
                    items.pop();
                }
                Ok(self.page("events", items, self.behaviour.shift_pages))
            }
        }
    }

    fn accounts(&self, client: AuthenticatedClient) -> Result<Value, ApiError> {
        if client.has_api_key && self.behaviour.standard_keys {
            return Err(ApiError::unauthenticated());
        }
        let world = &self.shared.world;
        let matches = |name: &str, value: &str| {
            self.query.iter().all(|(key, expected)| key != name || expected == value)
        };
        let seen = world.accounts().iter().enumerate().filter(|(index, account)| {
            let is_requested =
                matches("Status", "active") && matches("FriendlyName", &account.name);
            is_requested && client.may_see(world, *index)
        });
        let items = seen.map(|(_, account)| resource::account(world, account)).collect();
        Ok(self.page("accounts", items, false))
    }

    fn calls(&self, account: usize, now: Timestamp) -> Result<Value, ApiError> {
        let mut filter = Filter::read(self.query).map_err(|name| {
            ApiError::new(400, 20001, &format!("Parameter {name} is not a valid date"))
        })?;
        filter.strict_start_time = self.behaviour.strict_start_time;
        filter.shown_after = self.behaviour.calls_after;
        if self.behaviour.day_filters {
            filter.truncate_to_days();
        }
        let request = PageRequest::read(self.query);
        let page = list_calls(&self.shared.world, account, &filter, &request, now);
        let repeated = request.last_of_previous().filter(|_| self.behaviour.repeat_calls);
        let repeated = repeated
            .and_then(|sid| self.shared.world.find(account, sid, now, Detail::Outline))
            .map(|call| resource::call(&call, now));
        let token = |prefix, call: Option<&super::script::Call>| {
            call.map(|call| format!("{prefix}{}", call.sid))
        };
        let page = Page {
            key: "calls",
            next: token("PA", page.calls.last()).filter(|_| page.has_next),
            previous: token("PB", page.calls.first()).unwrap_or_default(),
            items: repeated
                .into_iter()
                .chain(page.calls.iter().map(|call| resource::call(call, now)))
                .collect(),
            number: request.page,
            size: request.size,
        };
        Ok(self.with_next_page_fault(page.envelope(self.path, self.query)))
    }

    /// Returns the requested page of a whole list.
    fn page(&self, key: &'static str, mut items: Vec<Value>, is_shifting: bool) -> Value {
        let PageRequest { size, page: number, .. } = PageRequest::read(self.query);
        let total = items.len();
        if is_shifting && total > size {
            let by = self.number % u64::try_from(total).unwrap_or(u64::MAX);
            items.rotate_left(usize::try_from(by).unwrap_or(0));
        }
        let from = number.saturating_mul(size);
        let items = items.into_iter().skip(from).take(size).collect();
        let next = (from.saturating_add(size) < total).then(String::new);
        let page = Page { key, items, number, size, next, previous: String::new() };
        self.with_next_page_fault(page.envelope(self.path, self.query))
    }

    /// Replaces the next page of an envelope if the behaviour says so.
    fn with_next_page_fault(&self, mut envelope: Value) -> Value {
        if self.behaviour.looping_next_page {
            envelope["next_page_uri"] = envelope["uri"].clone();
        }
        if self.behaviour.foreign_next_page {
            let uri = envelope["uri"].as_str().unwrap_or_default();
            envelope["next_page_uri"] = Value::from(format!("https://elsewhere.example.net{uri}"));
        }
        envelope
    }

    fn truncate(&self, mut body: String) -> String {
        if self.chance(4) < self.behaviour.truncate_body {
            let middle = body.floor_char_boundary(body.len() / 2);
            body.truncate(middle);
        }
        body
    }

    /// A number below 1,000 that depends on the request and on the decision.
    fn chance(&self, decision: u64) -> u16 {
        u16::try_from(hash(&[self.shared.world.seed(), self.number, decision]) % 1000).unwrap_or(0)
    }
}
