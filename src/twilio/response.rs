//! Reading an HTTP response: its head, its body up to a limit, and what a refusal means.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use super::error::Error;

/// Most bytes of an error body that are looked at.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Longest wait that a `Retry-After` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Twilio's error code for a missing permission.
const MISSING_PERMISSION: i64 = 70_051;

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn content_type(headers: &HeaderMap) -> &'static str {
    match header(headers, CONTENT_TYPE.as_str()) {
        None => "none",
        Some(value) if value.contains("json") => "json",
        Some(value) if value.contains("html") => "html",
        Some(_) => "other",
    }
}

pub(super) fn transport(error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        Error::Timeout
    } else if error.is_connect() {
        Error::Connect
    } else {
        Error::Interrupted
    }
}

pub(super) async fn read_body(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an answer other than 200 means.
pub(super) async fn refusal(response: reqwest::Response) -> Error {
    let status = response.status().as_u16();
    let retry_after = header(response.headers(), RETRY_AFTER.as_str())
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    match status {
        401 | 403 => {
            let body = read_body(response, MAX_ERROR_BYTES).await.unwrap_or_default();
            missing_permission(&body).map_or(Error::Unauthorized { status }, |permission| {
                Error::MissingPermission { permission }
            })
        }
        404 => Error::NotFound,
        429 => Error::TooManyRequests { retry_after },
        500..=599 => Error::Server { status, retry_after },
        _ => Error::UnexpectedStatus { status },
    }
}

/// The permission that Twilio's error 70051 names: the only word of an answer that is passed on,
/// and only if it looks like a permission.
fn missing_permission(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    if body.get("code")?.as_i64()? != MISSING_PERMISSION {
        return None;
    }
    let is_permission = |word: &&str| {
        word.starts_with("/twilio/")
            && word.len() < 100
            && word.bytes().all(|b| b.is_ascii_lowercase() || b"/.-_".contains(&b))
    };
    let word = body.get("message")?.as_str()?.split_whitespace().find(is_permission)?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permission_is_passed_on_from_an_error() {
        let message = |text: &str| {
            missing_permission(format!("{{\"code\":70051,\"message\":\"{text}\"}}").as_bytes())
        };
        assert_eq!(
            message("Authorization Error: required permission /twilio/voice/calls/list is missing"),
            Some("/twilio/voice/calls/list".to_owned())
        );
        assert_eq!(message("token 12345 /etc/passwd"), None);
        assert_eq!(missing_permission(b"{\"code\":20003}"), None);
        assert_eq!(missing_permission(b"<html>"), None);
    }
}
