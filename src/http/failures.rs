//! `/failures`: the most recent failing requests as HTML or JSON.
//!
//! `query` parses the query string, `page` renders HTML.

mod page;
mod query;
mod reported;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::store::failures::{ReadError, RecentFailure, RecentFailures, RecentReport};

use super::{HttpState, negotiate};

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// HTML.
    Page,
    /// JSON.
    Json,
}

/// `/failures`: HTML, or JSON for clients that prefer it.
pub(super) async fn page_or_json(
    State(state): State<HttpState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let format = if negotiate::prefers_json(&headers) { Format::Json } else { Format::Page };
    let mut response = respond(&state, &query.unwrap_or_default(), format).await;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `/failures.json`: always JSON.
pub(super) async fn json(State(state): State<HttpState>, RawQuery(query): RawQuery) -> Response {
    respond(&state, &query.unwrap_or_default(), Format::Json).await
}

async fn respond(state: &HttpState, query: &str, format: Format) -> Response {
    let filter = match query::parse(query) {
        Ok(filter) => filter,
        Err(problems) => return refusal(StatusCode::BAD_REQUEST, &problems, format),
    };
    match state.failures.recent(filter.clone()).await {
        Ok(found) => match format {
            Format::Json => found_json(&found),
            Format::Page => {
                let accounts: Vec<String> =
                    state.committed.read().accounts().values().cloned().collect();
                let page = page::found(&filter, &found, &accounts, (state.time)());
                no_store(Html(page.into_string()).into_response())
            }
        },
        Err(error) => {
            tracing::warn!(%error, "cannot read the recorded failures");
            refusal(StatusCode::SERVICE_UNAVAILABLE, &[explain(&error).to_owned()], format)
        }
    }
}

/// Explains why the store can't be read, without internal details.
fn explain(error: &ReadError) -> &'static str {
    match error {
        ReadError::Timeout => {
            "the store did not respond in time: its disk is slow or not responding; /metrics still works"
        }
        ReadError::Failed(_) => "the store can't be read; see the log",
        ReadError::Closed => "the exporter is stopping",
    }
}

fn refusal(status: StatusCode, problems: &[String], format: Format) -> Response {
    let body = match format {
        Format::Page => Html(page::refusal(status, problems).into_string()).into_response(),
        Format::Json => json_response(&json!({ "error": problems.join("; ") })),
    };
    no_store((status, body).into_response())
}

fn found_json(found: &RecentFailures) -> Response {
    let failures: Vec<Value> = found.failures.iter().map(failure_json).collect();
    let reported: Vec<Value> = found.reported.iter().map(report_json).collect();
    no_store(json_response(&json!({ "failures": failures, "reported": reported })))
}

fn report_json(report: &RecentReport) -> Value {
    json!({
        "time": report.at.to_string(),
        "account": report.account,
        "host": report.endpoint.host,
        "route": report.endpoint.route,
        "error_code": report.code.to_string(),
        "level": report.level.as_str(),
        "call_sid": report.call_sid.map(|sid| sid.to_string()),
    })
}

fn failure_json(failure: &RecentFailure) -> Value {
    let seconds = failure.duration_ms.map(|ms| std::time::Duration::from_millis(ms).as_secs_f64());
    let mut json = json!({
        "time": failure.at.to_string(),
        "account": failure.account,
        "host": failure.endpoint.host,
        "route": failure.endpoint.route,
        "kind": failure.kind.as_str(),
        "code": failure.code.to_string(),
        "reason": failure.reason.as_str(),
        "duration_seconds": seconds,
        "call_sid": failure.call_sid.to_string(),
    });
    if let Some(malformation) = failure.malformation {
        json["detail"] = malformation.as_str().into();
    }
    json
}

fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

/// Forbids caching: a cached page would show old failures as current.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
