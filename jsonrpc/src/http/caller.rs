//! Who a request is from.

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::token::BearerToken;

/// Who a request is from; methods find it in their extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody who knows the token.
    Trusted,
    /// Somebody who showed none.
    Anyone,
    /// Somebody, and there is no token that could be shown.
    NoToken,
}

/// A token was shown, and it is a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongToken;

impl Caller {
    /// The caller of a request (RFC 6750 section 2.1).
    pub(super) fn of(headers: &HeaderMap, token: Option<&BearerToken>) -> Result<Self, WrongToken> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let given = match (shown.next(), shown.next()) {
            (None, _) => return Ok(token.map_or(Self::NoToken, |_| Self::Anyone)),
            (Some(value), None) => value.as_bytes(),
            (Some(_), Some(_)) => return Err(WrongToken),
        };
        let Some((scheme, rest)) = given.split_at_checked(b"Bearer ".len()) else {
            return Err(WrongToken);
        };
        let known = scheme.eq_ignore_ascii_case(b"Bearer ")
            && token.is_some_and(|token| token.is(rest.trim_ascii()));
        if known { Ok(Self::Trusted) } else { Err(WrongToken) }
    }
}
