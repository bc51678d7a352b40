//! Text fields of fixed length: padded ASCII and NQNs.

use super::ReadError;

/// The longest NQN in bytes, without the terminating zero (section 4.5).
pub const NQN_LEN_MAX: usize = 223;

/// Copies text into a field and fills the rest with spaces; text that is too long is cut off.
pub fn set_padded(field: &mut [u8], text: &str) {
    fill(field, text.as_bytes(), b' ');
}

/// Copies text into a field and fills the rest with zeroes; text that is too long is cut off.
pub fn set_terminated(field: &mut [u8], text: &str) {
    fill(field, text.as_bytes(), 0);
}

fn fill(field: &mut [u8], text: &[u8], with: u8) {
    let len = text.len().min(field.len());
    let (head, tail) = field.split_at_mut(len);
    head.copy_from_slice(&text[..len]);
    tail.fill(with);
}

/// The bytes of a padded field up to the first zero, without spaces at the end.
#[must_use]
pub fn padded(field: &[u8]) -> &[u8] {
    terminated(field).trim_ascii_end()
}

/// The bytes of a field up to the first zero.
#[must_use]
pub fn terminated(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The NQN in a field of 256 bytes: UTF-8 of 1 to [`NQN_LEN_MAX`] bytes, ended by a zero.
///
/// # Errors
/// [`ReadError::Text`] when there is no zero, nothing before it, too much, or not UTF-8.
pub fn nqn<'a>(what: &'static str, field: &'a [u8; 256]) -> Result<&'a str, ReadError> {
    let bytes = terminated(field);
    if bytes.is_empty() || bytes.len() > NQN_LEN_MAX {
        return Err(ReadError::Text { what });
    }
    std::str::from_utf8(bytes).map_err(|_| ReadError::Text { what })
}
