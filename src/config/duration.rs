//! Durations such as `30s`, `16m` and `1h30m`.

use std::time::Duration;

/// The units in milliseconds, largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration; returns `None` if the text isn't one.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        total_ms = total_ms.checked_add(amount.checked_mul(*factor)?)?;
        rest = &rest[unit..];
    }
    Some(Duration::from_millis(total_ms))
}

/// Formats a duration in the form that [`parse`] reads.
pub fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_durations() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("16m", 960.0),
            ("24h", 86_400.0),
            ("1h30m", 5_400.0),
            ("500ms", 0.5),
            ("7d", 604_800.0),
            ("0s", 0.0),
        ] {
            let duration = parse(text).expect(text);
            assert!((duration.as_secs_f64() - seconds).abs() < 1e-9, "{text}");
            assert_eq!(parse(&show(duration)), Some(duration), "{text}");
        }
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "1 s",
            "1y",
            "soon",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
