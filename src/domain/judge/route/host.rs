//! The host label: a host with data replaced, such as a tenant's phone number. Generated names in cloud hosts
//! are configuration and are kept.

use std::borrow::Cow;

use super::PLACEHOLDER;
use super::segment;

/// The minimum number of digits of a phone number.
const MIN_NUMBER: usize = 7;
/// The minimum length of a group of digits attached to a word that is part of a phone number: `tel500-…`, but
/// not `ec2-…`.
const MIN_GROUP: usize = 3;
/// The minimum length of a label that can be a key.
const MIN_LABEL: usize = 12;

/// Returns the host label of a host with an optional port.
pub(super) fn template(host: &str) -> Cow<'_, str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, &host[host.len() - port.len() - 1..])
        }
        Some(_) | None => (host, ""),
    };
    if is_harmless(name) {
        return Cow::Borrowed(host);
    }
    let labels: Vec<Cow<'_, str>> = name.split('.').map(label).collect();
    Cow::Owned(without_numbers(&labels.join(".")) + port)
}

/// Whether a host is an IPv6 address, or too short to contain anything that is replaced.
fn is_harmless(name: &str) -> bool {
    let (mut digits, mut length) = (0, 0);
    for byte in name.bytes() {
        digits += usize::from(byte.is_ascii_digit());
        length = if byte == b'.' { 0 } else { length + 1 };
        if !byte.is_ascii() || byte == b'%' || length >= MIN_LABEL || digits >= MIN_NUMBER {
            return name.starts_with('[');
        }
    }
    !name.contains("xn--")
}

fn label(label: &str) -> Cow<'_, str> {
    let is_data = match label.strip_prefix("xn--") {
        Some(code) => punycode(code).is_none_or(|decoded| segment::is_data(&decoded)),
        None if label.is_ascii() && !label.contains('%') => segment::is_key(label.as_bytes()),
        None => segment::is_data(label),
    };
    Cow::Borrowed(if is_data { PLACEHOLDER } else { label })
}

/// Returns the host with each phone number replaced: consecutive digits, or groups separated by `.`, `-` or
/// `_`. Four numbers up to 255 are an IP address and stay.
fn without_numbers(name: &str) -> String {
    let mut found = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let words = rest.bytes().position(|b| b.is_ascii_digit()).unwrap_or(rest.len());
        found.push_str(&rest[..words]);
        rest = &rest[words..];
        let is_word = found.ends_with(|c: char| c.is_ascii_alphabetic());
        let number = number(rest, is_word);
        let digits = rest[..number].bytes().filter(u8::is_ascii_digit).count();
        let is_number = digits >= MIN_NUMBER && !is_address(&rest[..number]);
        found.push_str(if is_number { PLACEHOLDER } else { &rest[..number] });
        rest = &rest[number..];
    }
    found
}

/// Returns the length of the number at the start: its digits, and further groups of digits. Groups attached to
/// a word only count if they have at least [`MIN_GROUP`] digits, so that the `2` of `ec2-203-…` stands alone.
fn number(text: &str, is_word: bool) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(text);
    if is_word && end < MIN_GROUP {
        return end;
    }
    while let Some(more) = text[end..].strip_prefix(['.', '-', '_']) {
        let group = digits(more);
        let is_alone = !more[group..].starts_with(|c: char| c.is_ascii_alphanumeric());
        if group == 0 || (group < MIN_GROUP && !is_alone) {
            break;
        }
        end += 1 + group;
    }
    end
}

fn is_address(number: &str) -> bool {
    let groups = number.split(['.', '-', '_']);
    groups.clone().count() == 4 && groups.into_iter().all(|group| group.parse::<u8>().is_ok())
}

/// Decodes the Punycode after `xn--` in a label (RFC 3492, section 6.2); returns `None` if it is invalid.
fn punycode(code: &str) -> Option<String> {
    let (basic, code) = code.rsplit_once('-').unwrap_or(("", code));
    let mut text: Vec<char> = basic.chars().collect();
    let (mut next, mut at, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = code.chars().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (at, 1_u32, 36_u32);
        loop {
            let digit = match digits.next()? {
                letter @ 'a'..='z' => u32::from(letter) - u32::from('a'),
                digit @ '0'..='9' => u32::from(digit) - u32::from('0') + 26,
                _ => return None,
            };
            at = at.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(1, 26);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(36 - threshold)?;
            k += 36;
        }
        let length = u32::try_from(text.len() + 1).ok()?;
        let mut delta = (at - before) / if before == 0 { 700 } else { 2 };
        delta += delta / length;
        k = 0;
        while delta > 455 {
            delta /= 35;
            k += 36;
        }
        bias = k + 36 * delta / (delta + 38);
        next = next.checked_add(at / length)?;
        at %= length;
        text.insert(usize::try_from(at).ok()?, char::from_u32(next)?);
        at += 1;
    }
    Some(text.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_in_hosts_is_replaced_but_generated_names_stay() {
        for (host, expected) in [
            ("15005550006.tenant.example.com", ":id.tenant.example.com"),
            ("tel-15005550006.example.com:8443", "tel-:id.example.com:8443"),
            ("caller15005550006.example.com", "caller:id.example.com"),
            ("1-500-555-0006.example.com", ":id.example.com"),
            ("tel500-555-0006.example.com", "tel:id.example.com"),
            ("500-555-0006x.example.com", ":idx.example.com"),
            ("1.500.555.0006.example.com", ":id.example.com"),
            ("500_555_0006.example.com", ":id.example.com"),
            ("%2B15005550006.example.com", ":id.example.com"),
            ("%31%35005550006.example.com", ":id.example.com"),
            ("１５００５５５０００６.example.com", ":id.example.com"),
            ("xn--8hbaaaazcaan.example.com", ":id.example.com"),
            ("xn--tel--8egaaaa9bcaar.example.com", ":id.example.com"),
            ("550e8400-e29b-41d4-a716-446655440000.example.com", ":id.example.com"),
            ("u-550e8400-e29b-41d4-a716-446655440000.example.com", ":id.example.com"),
            ("ac00000000000000000000000000000001.example.com", ":id.example.com"),
            ("507f1f77bcf86cd799439011.example.com", ":id.example.com"),
            ("ghp_abcdefghijkl.example.com", ":id.example.com"),
            ("glpat-abcdefghijkl.example.com", ":id.example.com"),
            ("jane%40example.com", ":id.com"),
            ("voice-123456789012.us-central1.run.example", "voice-:id.us-central1.run.example"),
            // These stay.
            ("192.0.2.10", "192.0.2.10"),
            ("192.0.2.10:8080", "192.0.2.10:8080"),
            ("[2001:db8::15:5005:5500]", "[2001:db8::15:5005:5500]"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
            ("ec2-203-0-113-25.compute-1.example", "ec2-203-0-113-25.compute-1.example"),
            ("a1b2-203-0-113-25.ngrok.example", "a1b2-203-0-113-25.ngrok.example"),
            ("ip-10-0-12-134.internal", "ip-10-0-12-134.internal"),
            (
                "a1b2c3d4e5.execute-api.us-east-1.example",
                "a1b2c3d4e5.execute-api.us-east-1.example",
            ),
            (
                "abcdefghijklmnop4rstuvw6yzabcdef.lambda-url.us-east-1.example",
                "abcdefghijklmnop4rstuvw6yzabcdef.lambda-url.us-east-1.example",
            ),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            (
                "us-central1-project-123.cloudfunctions.example",
                "us-central1-project-123.cloudfunctions.example",
            ),
        ] {
            assert_eq!(template(host), expected, "{host}");
        }
    }

    #[test]
    fn punycode_is_decoded() {
        for (code, text) in [
            ("bcher-kva", Some("bücher")),
            ("maana-pta", Some("mañana")),
            ("fiqs8s", Some("中国")),
            ("80ak6aa92e", Some("аррӏе")),
            ("!", None),
            ("99999999", None),
        ] {
            assert_eq!(punycode(code).as_deref(), text, "{code}");
        }
    }
}
