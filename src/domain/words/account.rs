//! An account or subaccount, as Twilio's list of accounts shows it.

use super::sid::AccountSid;

/// An account of Twilio's list. The auth token that Twilio sends along is never decoded.
///
/// Source: <https://www.twilio.com/docs/iam/api/account>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAccount {
    /// Its SID.
    pub sid: AccountSid,
    /// `active`, `suspended`, `closed`, or what Twilio adds later as `other`.
    pub status: &'static str,
}

impl ListedAccount {
    /// An account with the status that Twilio tells.
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
