//! Authenticates requests: HTTP Basic with an Account SID or an API key. The account determines what a client
//! may see; permissions are part of `behaviour`.

use super::world::{Account, World};

/// A client with a valid credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuthenticatedClient {
    /// The index of the account that the credential belongs to.
    pub(crate) account: usize,
    pub(crate) has_api_key: bool,
}

impl AuthenticatedClient {
    /// Checks the credential in an `Authorization` header.
    pub(crate) fn authenticate(world: &World, authorization: &str) -> Option<AuthenticatedClient> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(decode_base64(encoded.trim())?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        let has_token = |one: &Account| one.sid == user && one.auth_token == password;
        let has_key = |one: &Account| one.api_key_sid == user && one.api_key_secret == password;
        let account = world.accounts().iter().position(|one| has_token(one) || has_key(one))?;
        Some(AuthenticatedClient { account, has_api_key: user.starts_with("SK") })
    }

    /// Whether this account is the client's own or one of its subaccounts.
    pub(crate) fn may_see(self, world: &World, account: usize) -> bool {
        account == self.account || world.accounts()[account].parent == Some(self.account)
    }
}

/// Decodes RFC 4648 base64, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_base64_of_every_length() {
        for (encoded, text) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vOmJhcg==", "foo:bar")]
        {
            assert_eq!(decode_base64(encoded).as_deref(), Some(text.as_bytes()), "{encoded}");
        }
        assert_eq!(decode_base64("Zm9v!"), None);
    }
}
