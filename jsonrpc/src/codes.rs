//! Error codes of the dialect, and constructors for the error objects that methods return.
//!
//! Codes below -32000 are those of the JSON-RPC 2.0 specification (section 5.1). Codes from -32000
//! to -32099 belong to the server; the values are those that jsonrpsee uses for the same
//! conditions, so that a client sees one code whichever transport it came by. Methods report the
//! failure of an operation as SPDK does, with a negative errno (-17 for EEXIST, -19 for ENODEV).

use jsonrpsee::types::ErrorObjectOwned;

/// The text is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The JSON is not a request object.
pub const INVALID_REQUEST: i32 = -32600;
/// No method has this name.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The method does not accept these parameters.
pub const INVALID_PARAMS: i32 = -32602;
/// The method failed in a way that its caller cannot influence.
pub const INTERNAL_ERROR: i32 = -32603;
/// The request is longer than the server accepts.
pub const REQUEST_TOO_LARGE: i32 = -32007;
/// The response is longer than the server sends.
pub const RESPONSE_TOO_LARGE: i32 = -32008;
/// The server has as many connections as it accepts.
pub const SERVER_BUSY: i32 = -32009;
/// The batch holds more requests than the server accepts.
pub const BATCH_TOO_LARGE: i32 = -32010;

/// An error with the code of invalid parameters; `message` names the parameter and what it allows.
pub fn invalid_params(message: impl Into<String>) -> ErrorObjectOwned {
    plain(INVALID_PARAMS, message)
}

/// An error that is the server's own fault.
pub fn internal_error(message: impl Into<String>) -> ErrorObjectOwned {
    plain(INTERNAL_ERROR, message)
}

/// The failure of an operation, by errno. Either sign is accepted, and the code is the negative
/// one.
///
/// Zero and `i32::MIN` are no errno: they become an internal error, so that a caller which lost the
/// real cause does not report success by accident.
pub fn from_errno(errno: i32, message: impl Into<String>) -> ErrorObjectOwned {
    match errno.checked_abs() {
        Some(0) | None => internal_error(message),
        Some(value) => plain(-value, message),
    }
}

/// As [`from_errno`], with the errno of an I/O error; EIO (-5) when the error carries none.
pub fn from_io_error(error: &std::io::Error, message: impl Into<String>) -> ErrorObjectOwned {
    const EIO: i32 = 5;
    from_errno(error.raw_os_error().unwrap_or(EIO), message)
}

/// An error object with a message and no data.
fn plain(code: i32, message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, None::<()>)
}

/// The error for text that is not JSON.
pub(crate) fn parse_error(detail: impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(PARSE_ERROR, "Parse error", Some(detail.to_string()))
}

/// The error for JSON that is not a request.
pub(crate) fn invalid_request(detail: impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_REQUEST, "Invalid request", Some(detail.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_becomes_a_negative_code_whatever_its_sign() {
        assert_eq!(from_errno(17, "exists").code(), -17);
        assert_eq!(from_errno(-19, "no device").code(), -19);
        assert_eq!(from_errno(-19, "no device").message(), "no device");
        assert_eq!(from_errno(0, "lost").code(), INTERNAL_ERROR);
        assert_eq!(from_errno(i32::MIN, "lost").code(), INTERNAL_ERROR);
    }

    #[test]
    fn io_errors_keep_their_errno() {
        let denied = std::io::Error::from_raw_os_error(13);
        assert_eq!(from_io_error(&denied, "denied").code(), -13);
        assert_eq!(from_io_error(&std::io::Error::other("x"), "x").code(), -5);
    }

    #[test]
    fn parameters_carry_the_specified_code() {
        assert_eq!(invalid_params("num_blocks: 0 is below 1").code(), INVALID_PARAMS);
    }
}
