//! Panels about all accounts, which stay readable with a hundred accounts: counts, a table with one row per account,
//! and a table of the accounts that need attention.

use super::build::Panel;
use super::{
    ANY, CALLER_FACING, EVENT_LAG, FAILURES, LATE, LINK_PARAMETERS, OBJECTIVE, VERY_LATE, quantile,
    share,
};

/// Label matchers for the variables.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// Words for a value that should be 1.
const YES_NO: [(&str, &str, &str); 2] = [("1", "yes", "green"), ("0", "no", "red")];

/// The numbers of accounts that can and can't be read.
pub(super) fn readable() -> Panel {
    let count =
        |value: u8| format!("count(min by (account) (twilio_exporter_up{{{ACCOUNT}}}) == {value})");
    Panel::stat(
        "Accounts",
        "Accounts by whether their last call list could be read. Exporter health lists those that are not readable.",
    )
    .unit("short")
    .decimals(0)
    .steps(&[(None, "green")])
    .size(4, 4)
    .when_empty("No account polled yet")
    .instant(&count(1), "readable")
    .instant(&count(0), "not readable")
    .colours(&[("/^not readable/", "red")])
}

/// A table with one row per account.
pub(super) fn table() -> Panel {
    let facing = format!("{ACCOUNT},{CALLER_FACING}");
    let sum = |family: &str, matchers: &str| {
        format!("sum by (account) (increase({family}{{{matchers}}}[$__range]))")
    };
    // Accounts without calls have a row, too.
    let or_0 =
        |expr: &str| format!("{expr} or 0 * max by (account) (twilio_account_info{{{ACCOUNT}}})");
    let failed = sum(FAILURES, &facing);
    let failing = share("increase", "[$__range]", &facing, " by (account) ");
    let cut_off =
        sum("twilio_calls_with_webhook_failures_total", &format!("{ACCOUNT},outcome=\"cut_off\""));
    let lag = quantile(
        0.9,
        "account, le",
        &format!("increase({EVENT_LAG}_bucket{{{ACCOUNT}}}[$__range])"),
    );
    let to = |uid: &str| {
        format!("/d/{uid}?var-account=${{__data.fields.Account:percentencode}}&{LINK_PARAMETERS}")
    };
    let (webhooks, route, calls, health) =
        (to("twilio-webhooks"), to("twilio-route"), to("twilio-calls"), to("twilio-exporter"));
    Panel::table(
        "Accounts",
        "Over the time range and all hosts and routes: finished calls; failed caller-facing requests (TwiML and media), their share and burn rate (share divided by the objective); 90th percentile of event lag; whether the last call list could be read; calls that can't be read while others can; callers cut off (highest first). Accounts link to their dashboards.",
        &[
            ("account", "Account"),
            ("Value #A", "Calls"),
            ("Value #B", "Failures"),
            ("Value #C", "Share"),
            ("Value #D", "Burn rate"),
            ("Value #F", "Lag (p90)"),
            ("Value #G", "Readable"),
            ("Value #H", "Unreadable calls"),
            ("Value #E", "Cut off"),
        ],
    )
    .size(24, 7)
    .when_empty("No account polled yet")
    .decimals(0)
    .instant(&or_0(&sum("twilio_calls_total", ACCOUNT)), "")
    .instant(&or_0(&failed), "")
    .instant(&failing, "")
    .instant(&format!("({failing}) / on () group_left () {OBJECTIVE}"), "")
    .instant(&or_0(&cut_off), "")
    .instant(&lag, "")
    .instant(&format!("min by (account) (twilio_exporter_up{{{ACCOUNT}}})"), "")
    .instant(&format!("max by (account) (twilio_exporter_calls_unreadable{{{ACCOUNT}}})"), "")
    .column("Calls", "short", &[])
    .column("Failures", "short", &[])
    .column("Share", "percentunit", &[])
    .column("Burn rate", "short", &[(None, "transparent"), (Some(1.0), "orange")])
    .column("Cut off", "short", &[(None, "transparent"), (Some(ANY), "red")])
    .column("Lag (p90)", "s", &[(None, "transparent"), (Some(LATE), "orange"), (Some(VERY_LATE), "red")])
    .column_words("Readable", &YES_NO)
    .column("Unreadable calls", "short", &[(None, "transparent"), (Some(ANY), "orange")])
    .link(
        "Account",
        &[
            ("Webhooks of this account", &webhooks),
            ("Routes of this account", &route),
            ("Calls of this account", &calls),
            ("Exporter health for this account", &health),
        ],
    )
}

/// A table of the accounts that can't be read, are behind, have an overdue settling read, or have unreadable calls.
pub(super) fn needing_attention() -> Panel {
    let gauge = |function: &str, family: &str| {
        format!("{function} by (account) (twilio_exporter_{family}{{{ACCOUNT}}})")
    };
    let (up, behind) = (gauge("min", "up"), gauge("max", "catching_up"));
    let overdue = gauge("max", "settling_overdue_seconds");
    let unreadable = gauge("max", "calls_unreadable");
    let needs_attention = format!(
        "{up} == 0 or {behind} == 1 or {overdue} > on () group_left () max(twilio:overdue_seconds:threshold) or {unreadable} > 0"
    );
    let of = |expr: &str| format!("{expr} and on (account) ({needs_attention})");
    let read = gauge("max", "last_success_timestamp_seconds");
    Panel::table(
        "Accounts needing attention",
        "Accounts whose last call list could not be read, that are catching up (more than 15 minutes behind, pages held back), whose settling reads are overdue beyond the alert threshold, or with calls that can't be read while others can.",
        &[
            ("account", "Account"),
            ("status", "Status at Twilio"),
            ("Value #A", "Readable"),
            ("Value #B", "Catching up"),
            ("Value #C", "Last read"),
            ("Value #E", "Unreadable calls"),
            ("Value #D", "Overdue"),
        ],
    )
    .size(16, 6)
    .when_empty("All accounts are readable and up to date.")
    .instant(&of(&format!("max by (account, status) (twilio_account_info{{{ACCOUNT}}}) * on (account) group_left () {up}")), "")
    .instant(&of(&behind), "")
    .instant(&of(&format!("1000 * {read}")), "")
    .instant(&of(&overdue), "")
    .instant(&of(&unreadable), "")
    .column_words("Readable", &YES_NO)
    .column_words("Catching up", &[("1", "yes", "orange"), ("0", "no", "green")])
    .column("Last read", "dateTimeFromNow", &[])
    .column("Unreadable calls", "short", &[(None, "transparent"), (Some(ANY), "orange")])
    .column("Overdue", "s", &[])
}
