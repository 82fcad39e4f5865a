//! Panels about firing alerts, which stay readable with hundreds of alerts.

use super::LINK_PARAMETERS;
use super::build::Panel;

/// Up to this many accounts with the same alert have one row each; more share a row.
const MAX_ROWS: u32 = 3;

/// The alerts selected by the variables. An alert about a host has neither account nor route.
fn firing(series: &str, more: &str) -> String {
    format!(
        r#"{series}{{alertname=~"Twilio.+",job=~"$job|",account=~"$account|",host=~"$host|",route=~"$route|"{more}}}"#
    )
}

/// The number of firing alerts.
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
    .when_empty("None")
    .instant(&count("critical"), "critical")
    .instant(&count("warning"), "warning")
    .instant("absent(twilio:webhook_failures_objective:threshold)", "rules not loaded")
    .colours(&[("/critical/", "red"), ("/warning/", "orange"), ("/not loaded/", "purple")])
}

/// The firing alerts, with their labels and start times.
pub(super) fn table() -> Panel {
    let labels = "alertname, severity, host, route";
    let is_firing = firing("ALERTS", r#",alertstate="firing""#);
    let of_accounts = firing("ALERTS", r#",alertstate="firing",account!="""#);
    // The number of accounts, or 0 for an alert without one, so that every alert has a number.
    let number = |by: &str| {
        format!(
            "(count by ({by}) (group by ({labels}, account) ({of_accounts})) or 0 * group by ({by}) ({is_firing}))"
        )
    };
    let since = format!("{} and ignoring (alertstate) {is_firing}", firing("ALERTS_FOR_STATE", ""));
    let accounts = format!("count by ({labels}) (group by ({labels}, account) ({is_firing}))");
    // A few accounts have one row each, with the account's name; many share a row.
    let rows = |each: &str, together: &str| {
        format!(
            "({each} and on ({labels}) {accounts} <= {MAX_ROWS}) or ({together} and on ({labels}) {accounts} > {MAX_ROWS})"
        )
    };
    // A row without an account links to all selected accounts.
    let account_url = format!(
        "/d/twilio-webhooks?var-account=${{__data.fields.Account:percentencode}}&{LINK_PARAMETERS}"
    );
    let host_url = format!(
        "/d/twilio-webhooks?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&{LINK_PARAMETERS}"
    );
    let route_url = format!(
        "/d/twilio-route?${{account:queryparam}}&var-host=${{__data.fields.Host:percentencode}}&var-route=${{__data.fields.Route:percentencode}}&{LINK_PARAMETERS}"
    );
    Panel::table(
        "Firing alerts",
        "Alerts firing at the end of the time range, and since when their condition has been true. If more than three accounts have the same alert for a route or host, they share one row without account names.",
        &[("severity", "Severity"), ("alertname", "Alert"), ("account", "Account"), ("host", "Host"), ("route", "Route"), ("Value #A", "Accounts"), ("Value #B", "Since")],
    )
    .size(12, 8)
    .lowest_first("Severity")
    .when_empty("No alerts are firing.")
    .instant(&rows(&number(&format!("{labels}, account")), &number(labels)), "")
    .instant(&rows(&format!("1000 * min by ({labels}, account) ({since})"), &format!("1000 * min by ({labels}) ({since})")), "")
    .column("Accounts", "short", &[])
    .dash_for_0("Accounts")
    .column("Since", "dateTimeFromNow", &[])
    .link("Account", &[("Webhooks of this account", &account_url)])
    .link("Host", &[("Webhooks on this host", &host_url)])
    .link("Route", &[("Details of this route", &route_url)])
}
