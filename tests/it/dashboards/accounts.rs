//! Panels about all accounts at once, for one account and for a hundred: counts, a table with one row
//! per account, and a table of only those accounts that need a look.

use super::build::Panel;
use super::{ANY, FACING, FAILURES, KEPT, LATE, LATENESS, OBJECTIVE, VERY_LATE, quantile, share};

/// What the variables choose.
const ACCOUNT: &str = r#"job=~"$job",account=~"$account""#;
/// Words for a claim that should be true.
const YES_NO: [(&str, &str, &str); 2] = [("1", "yes", "green"), ("0", "no", "red")];

/// How many accounts can be read, and how many can't.
pub(super) fn readable() -> Panel {
    let count =
        |value: u8| format!("count(min by (account) (twilio_exporter_up{{{ACCOUNT}}}) == {value})");
    Panel::stat(
        "Accounts",
        "How many accounts' last list of calls could be read. Exporter health names those that couldn't.",
    )
    .unit("short")
    .decimals(0)
    .steps(&[(None, "green")])
    .size(4, 4)
    .or_say("No account was asked yet")
    .instant(&count(1), "readable")
    .instant(&count(0), "not readable")
    .colours(&[("/^not readable/", "red")])
}

/// One row per account.
pub(super) fn table() -> Panel {
    let facing = format!("{ACCOUNT},{FACING}");
    let sum = |family: &str, chosen: &str| {
        format!("sum by (account) (increase({family}{{{chosen}}}[$__range]))")
    };
    // An account without calls yet has a row, too.
    let or_0 =
        |expr: &str| format!("{expr} or 0 * max by (account) (twilio_account_info{{{ACCOUNT}}})");
    let failed = sum(FAILURES, &facing);
    let failing = share("increase", "[$__range]", &facing, " by (account) ");
    let cut_off =
        sum("twilio_calls_with_webhook_failures_total", &format!("{ACCOUNT},outcome=\"cut_off\""));
    let lag = quantile(
        0.9,
        "account, le",
        &format!("increase({LATENESS}_bucket{{{ACCOUNT}}}[$__range])"),
    );
    let to =
        |uid: &str| format!("/d/{uid}?var-account=${{__data.fields.Account:percentencode}}&{KEPT}");
    let (webhooks, route, calls, health) =
        (to("twilio-webhooks"), to("twilio-route"), to("twilio-calls"), to("twilio-exporter"));
    Panel::table(
        "Accounts",
        "Over the time range, of all hosts and routes: finished calls; caller-facing requests (TwiML and media) that failed, their share, and that divided by the objective (burn rate); callers cut off; within which time 90 % of the Call Events were counted; whether the last list of calls could be read; and how many calls fail to be read on their own. A name leads to the dashboards of that account; the account with the most callers cut off comes first.",
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
    .or_say("No account was asked yet")
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
            ("Its routes", &route),
            ("Its calls", &calls),
            ("Reading it", &health),
        ],
    )
}

/// Only the accounts that can't be read, are behind, wait for a read that is long due, or have calls that
/// can't be read.
pub(super) fn in_trouble() -> Panel {
    let gauge = |function: &str, family: &str| {
        format!("{function} by (account) (twilio_exporter_{family}{{{ACCOUNT}}})")
    };
    let (up, behind) = (gauge("min", "up"), gauge("max", "catching_up"));
    let overdue = gauge("max", "settling_overdue_seconds");
    let unreadable = gauge("max", "calls_unreadable");
    let troubled = format!(
        "{up} == 0 or {behind} == 1 or {overdue} > on () group_left () max(twilio:overdue_seconds:threshold) or {unreadable} > 0"
    );
    let of = |expr: &str| format!("{expr} and on (account) ({troubled})");
    let read = gauge("max", "last_success_timestamp_seconds");
    Panel::table(
        "Accounts that need a look",
        "Only accounts whose last list of calls couldn't be read, that are catching up (more than 15 minutes behind, so that pages are held back), that have a settling read overdue for longer than the rules allow, or that have calls which fail to be read on their own.",
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
    .or_say("All accounts are read, and none is behind.")
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
