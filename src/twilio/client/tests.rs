//! Where credentials are sent, and where they aren't.

use super::*;

#[test]
fn follows_a_next_page_only_to_the_same_list_and_origin() {
    let client = client("https://api.twilio.com");
    let list = join_path(&client.base, "2010-04-01/Accounts/AC1/Calls.json");
    let own = "https://api.twilio.com/2010-04-01/Accounts/AC1/Calls.json?Page=1";
    let too_long = format!("/2010-04-01/Accounts/AC1/Calls.json?Page={}", "1".repeat(4_096));
    for (next, expected) in [
        ("/2010-04-01/Accounts/AC1/Calls.json?Page=1", Some(own)),
        (own, Some(own)),
        ("https://api.twilio.com:443/2010-04-01/Accounts/AC1/Calls.json?Page=1", Some(own)),
        ("/x/../2010-04-01/Accounts/AC1/Calls.json?Page=1", Some(own)),
        ("http://api.twilio.com/2010-04-01/Accounts/AC1/Calls.json?Page=1", None),
        ("https://api.twilio.com:8443/2010-04-01/Accounts/AC1/Calls.json", None),
        ("https://evil.example/2010-04-01/Accounts/AC1/Calls.json", None),
        ("//evil.example/2010-04-01/Accounts/AC1/Calls.json", None),
        ("https://user@api.twilio.com/2010-04-01/Accounts/AC1/Calls.json", None),
        // Another account, another resource, and other spellings of a path.
        ("/2010-04-01/Accounts/AC2/Calls.json?Page=1", None),
        ("/2010-04-01/Accounts/AC1/Calls/CA1/Events.json", None),
        ("/2010-04-01/Accounts/AC1/Calls.json/../../AC2/Calls.json", None),
        ("/2010-04-01/Accounts/AC1%2FCalls.json", None),
        ("//2010-04-01/Accounts/AC1/Calls.json", None),
        ("https://[", None),
        (&too_long, None),
    ] {
        let url = Client::resolve(&client.base, &list, next).map(String::from).ok();
        assert_eq!(url.as_deref(), expected, "{next}");
    }
}

#[test]
fn a_position_is_independent_of_the_urls_spelling() {
    let client = client("https://api.twilio.com");
    let position = |next: &str| position(&client.base.join(next).expect("a URL"));
    const LIST: &str = "/2010-04-01/Accounts/AC1/Calls/CA1/Events.json";
    for query in ["", "?", "?PageSize=50", "?PageSize=1&Page=0", "?Page=00&PageToken=&&PageSize=7"]
    {
        assert_eq!(position(&format!("{LIST}{query}")), "", "{query}");
    }
    let second = position(&format!("{LIST}?PageSize=50&Page=1&PageToken=PA%2B1"));
    assert_ne!(second, "");
    for (same, next) in [
        (true, format!("{LIST}?Page=1&PageToken=PA%2B1&PageSize=50")),
        (true, format!("{LIST}?%50age=%31&PageToken=P%41%2b1#second")),
        (true, format!("https://api.twilio.com{LIST}?PageToken=PA%2B1&Page=1")),
        (true, format!("/x/..{LIST}?PageToken=PA%2B1&Page=1")),
        (false, format!("{LIST}?Page=2&PageToken=PA%2B1")),
        (false, format!("{LIST}?Page=1&PageToken=PA+1")),
        (false, format!("{LIST}?Page=1&PageToken=pa%2B1")),
        (false, format!("{LIST}?Page=1")),
        (false, format!("{LIST}?page=1&PageToken=PA%2B1")),
        (false, format!("{LIST}?Page=1&PageToken=PA%2B1&AfterSid=CA1")),
    ] {
        assert_eq!(position(&next) == second, same, "{next}");
    }
}

#[test]
fn a_next_page_stays_below_the_reverse_proxys_path() {
    let client = client("https://proxy.example/twilio/");
    let list = join_path(&client.base, "2010-04-01/Accounts.json");
    assert_eq!(list.as_str(), "https://proxy.example/twilio/2010-04-01/Accounts.json");
    for (next, is_followed) in [
        ("/2010-04-01/Accounts.json?Page=1", true),
        ("/twilio/2010-04-01/Accounts.json?Page=1", true),
        ("/twilio-evil/2010-04-01/Accounts.json?Page=1", false),
        ("/twilio-evil", false),
        ("/TWILIO/2010-04-01/Accounts.json", false),
        ("/twilio/../2010-04-01/Accounts.json?Page=1", true),
        ("/twilio/%2e%2e/evil/2010-04-01/Accounts.json", false),
        ("/twilio\\..\\evil/2010-04-01/Accounts.json", false),
        ("/twilio%2F2010-04-01/Accounts.json", false),
        ("/other/2010-04-01/Accounts.json", false),
    ] {
        let url = Client::resolve(&client.base, &list, next).map(String::from);
        let expected = "https://proxy.example/twilio/2010-04-01/Accounts.json?Page=1";
        assert_eq!(url.is_ok_and(|url| url == expected), is_followed, "{next}");
    }
}

#[test]
fn the_error_logs_next_page_is_on_the_monitor_host_or_the_reverse_proxy() {
    const ALERTS: &str = "https://monitor.twilio.com/v1/Alerts?Page=1";
    const PROXIED: &str = "https://proxy.example/twilio/v1/Alerts?Page=1";
    for (base, next, expected) in [
        ("https://api.twilio.com", ALERTS, Some(ALERTS)),
        ("https://api.twilio.com", "/v1/Alerts?Page=1", Some(ALERTS)),
        ("https://api.twilio.com", "https://evil.example/v1/Alerts?Page=1", None),
        ("https://api.twilio.com", "https://monitor.twilio.com/v1/Events?Page=1", None),
        ("https://api.twilio.com", "https://monitor.twilio.com.evil.example/v1/Alerts", None),
        ("https://api.twilio.com", "https://user@monitor.twilio.com/v1/Alerts?Page=1", None),
        ("https://proxy.example/twilio", ALERTS, Some(PROXIED)),
        ("https://proxy.example/twilio", "https://monitor.twilio.com/evil?Page=1", None),
        ("https://proxy.example/twilio", "https://evil.example/v1/Alerts?Page=1", None),
    ] {
        let client = client(base);
        let list = join_path(&client.monitor, "v1/Alerts");
        let url = Client::resolve(&client.monitor, &list, next).map(String::from).ok();
        assert_eq!(url.as_deref(), expected, "{base} {next}");
    }
}

fn client(base_url: &str) -> Client {
    let base_url = BaseUrl::parse(base_url).expect("a base URL");
    let options = ClientOptions {
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        ca_pem: None,
        proxy: None,
    };
    let credentials =
        Credentials { username: "AC".to_owned(), secret: SecretString::from("secret") };
    Client::new(&base_url, credentials, &options, LargeBodies::default()).expect("a client")
}
