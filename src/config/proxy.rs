//! The proxy of the environment, found where the HTTP client and curl look for it.

use crate::twilio::Proxy;
use crate::twilio::proxy::InvalidProxy;

use super::environment::Environment;
use super::problem::Problem;
use super::shape;

/// The variables that name a proxy for https, the first one that is set wins. `HTTP_PROXY` is not one of
/// them: only this machine is asked without TLS, and never through a proxy.
const PROXIES: [[&str; 2]; 2] = [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];
/// The variables that name the hosts that are reached without it.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxy that the environment names, if there is any. One that can't be used is a problem whichever
/// accounts there are: a reload may bring one that needs it.
pub(super) fn of_environment(
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<Proxy> {
    let mut problem = |name: &str, text: String| {
        let place = format!("environment variable {name}");
        problems.push(Problem { place, key: String::new(), text });
    };
    let set = |names: [&'static str; 2]| names.into_iter().find(|name| environment.is_set(name));
    // A variable that is set to nothing names none, and hides the other way of writing it.
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
            problem(name, refused(error, text));
            None
        }
    }
}

fn refused(error: InvalidProxy, text: &str) -> String {
    format!(
        "expected a proxy such as `http://proxy.example.com:3128`, got {}: {error}",
        shape::text(text)
    )
}
