//! An account or subaccount from Twilio's list of accounts.

use super::sid::AccountSid;

/// A listed account. The auth token in Twilio's response is never decoded.
///
/// Source: <https://www.twilio.com/docs/iam/api/account>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAccount {
    /// The account's SID.
    pub sid: AccountSid,
    /// `active`, `suspended`, `closed`, or `other` for any other status.
    pub status: &'static str,
}

impl ListedAccount {
    /// Creates an account with the status reported by Twilio.
    pub fn new(sid: AccountSid, status: &str) -> Self {
        let status = match status {
            "active" => "active",
            "suspended" => "suspended",
            "closed" => "closed",
            _ => "other",
        };
        Self { sid, status }
    }
}
