//! Finds the proxy in the same environment variables as the HTTP client and curl.

use crate::twilio::Proxy;
use crate::twilio::proxy::InvalidProxy;

use super::environment::Environment;
use super::problem::Problem;
use super::shape;

/// The variables that name a proxy for https, in order of precedence. `HTTP_PROXY` isn't one of them: only
/// loopback addresses are reached without TLS, and never through a proxy.
const PROXIES: [[&str; 2]; 2] = [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];
/// The variables that name the hosts to reach without the proxy.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Returns the proxy that the environment names, if any. An invalid proxy is a problem even if no account
/// needs it: a reload may add one that does.
pub(super) fn from_environment(
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<Proxy> {
    let mut problem = |name: &str, text: String| {
        let place = format!("environment variable {name}");
        problems.push(Problem { place, key: String::new(), text });
    };
    let set = |names: [&'static str; 2]| names.into_iter().find(|name| environment.is_set(name));
    // An empty variable names no proxy, and hides its other spelling.
    let names = PROXIES.into_iter().filter_map(set);
    let name = names.into_iter().find(|name| environment.trimmed(name) != Some(""))?;
    let Some(text) = environment.trimmed(name) else {
        problem(name, "is not valid UTF-8".to_owned());
        return None;
    };
    let exceptions = match set(EXCEPTIONS) {
        None => String::new(),
        Some(name) if environment.is_unreadable(name) => {
            problem(name, "is not valid UTF-8".to_owned());
            return None;
        }
        Some(name) => environment.get(name).unwrap_or_default(),
    };
    match Proxy::parse(text, &exceptions, name) {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            problem(name, describe(error, text));
            None
        }
    }
}

fn describe(error: InvalidProxy, text: &str) -> String {
    format!(
        "expected a proxy such as `http://proxy.example.com:3128`, got {}: {error}",
        shape::text(text)
    )
}
