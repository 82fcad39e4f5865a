//! What to do after a failed request.

use std::time::Duration;

use crate::domain::track::failing::ReadFailure;
use crate::twilio::{Error, Status};

/// What to do after a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Fewer requests at once, and a pause: the customer's live calls come first.
    Throttled {
        /// How long Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// Not shown to these credentials: the call's own matter, or the list's, until others are
    /// refused as well.
    Refused,
    /// Try this one again later; several in a row pause the account.
    Failed {
        /// How long Twilio asks to wait.
        retry_after: Option<Duration>,
    },
    /// This call alone can't be read.
    SkipCall,
    /// The list ends here: what follows isn't Twilio's.
    StopList,
}

/// Decides.
pub(super) fn decide(error: &Error) -> Decision {
    match error {
        Error::TooManyRequests { retry_after, .. } => {
            Decision::Throttled { retry_after: *retry_after }
        }
        Error::Unauthorized(_) | Error::NotActive(_) | Error::MissingPermission { .. } => {
            Decision::Refused
        }
        Error::Server { retry_after, .. } => Decision::Failed { retry_after: *retry_after },
        // Twilio answers, but not to this: the request itself is at fault.
        Error::UnexpectedStatus(Status { http: 400..=499, .. }) => Decision::SkipCall,
        Error::Timeout | Error::Connect(_) | Error::Interrupted | Error::UnexpectedStatus(_) => {
            Decision::Failed { retry_after: None }
        }
        // A truncated page or an error page of a proxy: the next try may be whole.
        Error::Malformed { .. } | Error::NotHttp => Decision::Failed { retry_after: None },
        Error::NotFound(_)
        | Error::TooLarge { .. }
        | Error::Shifted
        | Error::Endless
        | Error::Incomplete => Decision::SkipCall,
        Error::ForeignNextPage => Decision::StopList,
    }
}

/// What a failed read says of its call. A 429 says nothing, and is asked for again.
pub(super) fn failure_of(error: &Error) -> ReadFailure {
    match decide(error) {
        Decision::Refused => ReadFailure::Refused,
        Decision::SkipCall if matches!(error, Error::NotFound(_)) => ReadFailure::NotFound,
        Decision::SkipCall | Decision::StopList => ReadFailure::Unreadable,
        Decision::Throttled { .. } | Decision::Failed { .. } => ReadFailure::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_counts_against_the_account() {
        let status = |http| Status { http, code: None };
        for (http, expected) in [
            (400, Decision::SkipCall),
            (410, Decision::SkipCall),
            (302, Decision::Failed { retry_after: None }),
        ] {
            assert_eq!(decide(&Error::UnexpectedStatus(status(http))), expected, "{http}");
        }
        assert_eq!(decide(&Error::Endless), Decision::SkipCall);
        assert_eq!(decide(&Error::Timeout), Decision::Failed { retry_after: None });
        assert_eq!(decide(&Error::Unauthorized(status(403))), Decision::Refused);
    }
}
