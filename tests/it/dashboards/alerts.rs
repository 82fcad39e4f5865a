//! Panels about the alerts that fire, for one of them and for hundreds.

use super::KEPT;
use super::build::Panel;

/// Up to so many accounts with the same alert have a row each; more have one together.
const ROWS: u32 = 3;

/// Firing alerts that the variables choose. An alert about a host has no account and no route.
fn firing(series: &str, more: &str) -> String {
    format!(
        r#"{series}{{alertname=~"Twilio.+",job=~"$job|",account=~"$account|",host=~"$host|",route=~"$route|"{more}}}"#
    )
}

/// How many alerts fire.
pub(super) fn count() -> Panel {
    let count = |severity: &str| {
        let alerts = firing("ALERTS", &format!(r#",alertstate="firing",severity="{severity}""#));
        format!("count(group by (alertname, account, host, route) ({alerts}))")
    };
    Panel::stat(
        "Alerts",
        "Alerts from the exporter's rules that are firing at the end of the time range. If it says rules not loaded, no alert can fire.",
    )
    .unit("short")
    .decimals(0)
    .steps(&[(None, "green")])
    .size(4, 4)
    .or_say("None")
    .instant(&count("critical"), "critical")
    .instant(&count("warning"), "warning")
    .instant("absent(twilio:webhook_failures_objective:threshold)", "rules not loaded")
    .colours(&[("/critical/", "red"), ("/warning/", "orange"), ("/not loaded/", "purple")])
}

/// Which alerts fire, about what, since when.
pub(super) fn table() -> Panel {
    let labels = "alertname, severity, host, route";
    let is_firing = firing("ALERTS", r#",alertstate="firing""#);
    let of_accounts = firing("ALERTS", r#",alertstate="firing",account!="""#);
    // 0 where it is about no account, so that each alert has a number.
    let number = |by: &str| {
        format!(
            "(count by ({by}) (group by ({labels}, account) ({of_accounts})) or 0 * group by ({by}) ({is_firing}))"
        )
    };
    let since = format!("{} and ignoring (alertstate) {is_firing}", firing("ALERTS_FOR_STATE", ""));
    let accounts = format!("count by ({labels}) (group by ({labels}, account) ({is_firing}))");
    // Few have a row each, with the name of their account; many are one row.
    let rows = |each: &str, together: &str| {
        format!(
            "({each} and on ({labels}) {accounts} <= {ROWS}) or ({together} and on ({labels}) {accounts} > {ROWS})"
        )
    };
    // A row without an account is about all that are chosen.
    let account_url =
        format!("/d/twilio-webhooks?var-account=${{__data.fields.Account:percentencode}}&{KEPT}");
    let host_url = format!(
        "/d/twilio-webhooks?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&{KEPT}"
    );
    let route_url = format!(
        "/d/twilio-route?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&var-route=${{__data.fields.Route:percentencode}}&{KEPT}"
    );
    Panel::table(
        "Firing alerts",
        "Alerts firing at the end of the time range, and since when their condition has been true. If more than three accounts have the same alert for a route or host, they share one row without account names.",
        &[("severity", "Severity"), ("alertname", "Alert"), ("account", "Account"), ("host", "Host"), ("route", "Route"), ("Value #A", "Accounts"), ("Value #B", "Since")],
    )
    .size(12, 8)
    .lowest_first("Severity")
    .or_say("No alerts are firing.")
    .instant(&rows(&number(&format!("{labels}, account")), &number(labels)), "")
    .instant(&rows(&format!("1000 * min by ({labels}, account) ({since})"), &format!("1000 * min by ({labels}) ({since})")), "")
    .column("Accounts", "short", &[])
    .dash_for_0("Accounts")
    .column("Since", "dateTimeFromNow", &[])
    .link("Account", &[("Webhooks of this account", &account_url)])
    .link("Host", &[("Webhooks on this host", &host_url)])
    .link("Route", &[("Details of this route", &route_url)])
}
