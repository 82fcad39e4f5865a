//! Speeds up rules and configurations: divides every duration by a factor and changes nothing else.

use std::ops::Range;

/// The milliseconds of each unit; `ms` precedes `m`.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Divides the durations in YAML or PromQL (`for: 5m`, `[1h]`, `[6h:5m]`, `offset 1d`) by a factor, and
/// also thresholds whose names end in seconds. Names that contain a duration (`…:increase1h`) are kept.
pub(crate) fn shortened(text: &str, factor: u64) -> String {
    let mut seconds_follow = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let vector =
            line.trim().strip_prefix("expr: vector(").and_then(|rest| rest.strip_suffix(')'));
        match vector.and_then(|number| number.parse::<f64>().ok()) {
            #[expect(clippy::cast_precision_loss, reason = "factors are small")]
            Some(seconds) if seconds_follow => {
                let indent = &line[..line.len() - line.trim_start().len()];
                lines.push(format!("{indent}expr: vector({})", seconds / factor as f64));
            }
            _ => lines.push(line_shortened(line, factor)),
        }
        seconds_follow = line.trim_end().ends_with("_seconds:threshold");
    }
    lines.join("\n") + "\n"
}

fn line_shortened(line: &str, factor: u64) -> String {
    let mut short = String::new();
    let mut rest = line;
    while let Some((at, milliseconds)) = duration(rest) {
        short.push_str(&rest[..at.start]);
        short.push_str(&format!("{}ms", (milliseconds / factor).max(1)));
        rest = &rest[at.end..];
    }
    short + rest
}

/// The position of the first duration that is a separate word, and its milliseconds.
fn duration(text: &str) -> Option<(Range<usize>, u64)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    let mut from = 0;
    while let Some(start) = text[from..].find(|c: char| c.is_ascii_digit()).map(|at| from + at) {
        let digits =
            text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
        let end = start + digits;
        let follows = &text[end..];
        let unit = UNITS.iter().find(|(unit, _)| {
            follows.strip_prefix(unit).is_some_and(|after| !after.starts_with(is_name))
        });
        let is_apart = !text[..start].ends_with(is_name);
        if let (Some((unit, milliseconds)), true) = (unit, is_apart) {
            let number: u64 = text[start..end].parse().ok()?;
            return Some((start..end + unit.len(), number * milliseconds));
        }
        from = end;
    }
    None
}

#[test]
fn shortens_durations_but_not_names() {
    for (text, short) in [
        ("for: 2m", "for: 10000ms\n"),
        ("keep_firing_for: 30m # long", "keep_firing_for: 150000ms # long\n"),
        (
            "sum_over_time(job:twilio:increase1h{a=\"b\"}[1d:10m]) / 6 > 0.5",
            "sum_over_time(job:twilio:increase1h{a=\"b\"}[7200000ms:50000ms]) / 6 > 0.5\n",
        ),
        ("x offset 1w or y[15s]", "x offset 50400000ms or y[1250ms]\n"),
        ("le=~\"3([.]0)?\", 2.5s, port 9090", "le=~\"3([.]0)?\", 2.5s, port 9090\n"),
        (
            "- record: twilio:young_store_seconds:threshold\n  expr: vector(7200)",
            "- record: twilio:young_store_seconds:threshold\n  expr: vector(600)\n",
        ),
        ("  expr: vector(7200)", "  expr: vector(7200)\n"),
    ] {
        assert_eq!(shortened(text, 12), short);
    }
}
