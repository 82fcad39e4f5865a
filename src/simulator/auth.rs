//! Authenticates requests: HTTP Basic with an Account SID or an API key. The account determines what a client
//! may see; permissions are part of `behaviour`.

use base64::prelude::*;

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
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
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
