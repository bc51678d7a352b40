//! Cuts a stream of JSON values into values, without framing and without knowing where reads split.
//!
//! [`Framer`] is a pure state machine: bytes in, whole values out. It follows only what is needed
//! to find a value's end (strings, escapes, brackets), and whoever takes the value parses it once.
//!
//! Invariants:
//!
//! - Every byte is looked at once, so a large value that arrives in many small pieces costs linear
//!   time.
//! - What comes out does not depend on how the input was split.
//! - Whatever it refuses, a JSON parser refuses too, except for the two limits (size and depth).
//! - A stream without framing cannot be resynchronised: after an error every call returns that
//!   error.

use std::ops::Range;

use thiserror::Error;

/// The deepest nesting that [`Framer`] can be told to accept; the parser used by methods stops at
/// 127.
pub const MAX_DEPTH: u32 = 127;

/// A buffer that grew beyond this for one large value is given back once that value has been taken.
const KEEP_BYTES: usize = 256 * 1024;

/// Why the stream cannot be cut any further.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FramingError {
    /// A value is longer than the limit.
    #[error("the value is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Arrays and objects are nested deeper than the limit.
    #[error("arrays and objects are nested deeper than {limit} levels")]
    TooDeep {
        /// The limit in levels.
        limit: u32,
    },
    /// A byte that cannot stand outside a JSON string.
    #[error("unexpected byte 0x{byte:02x}")]
    UnexpectedByte {
        /// The byte.
        byte: u8,
    },
    /// A closing bracket that does not match the one it closes.
    #[error("the bracket {found:?} closes nothing or the wrong kind")]
    Mismatched {
        /// The closing bracket.
        found: char,
    },
    /// The stream ended inside a value.
    #[error("the stream ended inside a value")]
    Incomplete,
}

/// Where the scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a value.
    Between,
    /// Inside an array or object, outside a string.
    Structure,
    /// Inside a string.
    Text,
    /// Behind a backslash inside a string.
    Escape,
    /// Inside a number, `true`, `false` or `null` that stands alone; the next delimiter ends it.
    Scalar,
}

/// The resumable scanner. See the module documentation.
#[derive(Debug)]
pub struct Framer {
    buf: Vec<u8>,
    /// The first byte that was not handed out: start of the current value, once `state` is not
    /// `Between`.
    start: usize,
    /// The first byte that was not looked at.
    scan: usize,
    state: State,
    depth: u32,
    /// One bit per level, 1 for an object and 0 for an array; the innermost level is bit 0.
    kinds: u128,
    max_value_bytes: usize,
    max_depth: u32,
    ended: bool,
    failed: Option<FramingError>,
}

impl Framer {
    /// A scanner for values of at most `max_value_bytes` bytes (at least 1) and `max_depth` levels
    /// (at most [`MAX_DEPTH`]); values outside these ranges are clamped.
    pub fn new(max_value_bytes: usize, max_depth: u32) -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            scan: 0,
            state: State::Between,
            depth: 0,
            kinds: 0,
            max_value_bytes: max_value_bytes.max(1),
            max_depth: max_depth.min(MAX_DEPTH),
            ended: false,
            failed: None,
        }
    }

    /// Appends bytes of the stream. Bytes pushed after [`Framer::finish`] or after an error are
    /// ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.ended || self.failed.is_some() {
            return;
        }
        self.compact();
        self.buf.extend_from_slice(bytes);
    }

    /// States that the stream ended: a number at its very end is complete now, anything else that
    /// was begun is an error.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// Takes the next complete value, or `None` when more bytes are needed (or, after
    /// [`Framer::finish`], when the stream ended cleanly).
    ///
    /// # Errors
    ///
    /// See [`FramingError`]; the error is final.
    pub fn next_value(&mut self) -> Result<Option<&[u8]>, FramingError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.advance() {
            Ok(Some(range)) => {
                self.start = range.end;
                self.scan = range.end;
                self.state = State::Between;
                Ok(Some(&self.buf[range]))
            }
            Ok(None) => {
                // An idle stream must not hold on to the memory of its last large value.
                self.compact();
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error);
                self.buf = Vec::new();
                Err(error)
            }
        }
    }

    /// Bytes held and not handed out yet.
    pub fn pending_bytes(&self) -> usize {
        self.buf.len().saturating_sub(self.start)
    }

    /// Drops what was handed out. The tail moves only when it is no longer than what is dropped, so
    /// the cost of moving is covered by the bytes consumed.
    fn compact(&mut self) {
        let tail = self.pending_bytes();
        if self.start == 0 || tail > self.start {
            return;
        }
        if self.buf.capacity() > KEEP_BYTES && tail <= KEEP_BYTES {
            self.buf = self.buf.split_off(self.start);
        } else {
            self.buf.drain(..self.start);
        }
        self.scan -= self.start;
        self.start = 0;
    }

    /// Scans on until a value is complete or the bytes run out.
    fn advance(&mut self) -> Result<Option<Range<usize>>, FramingError> {
        while let Some(&byte) = self.buf.get(self.scan) {
            if self.state != State::Between && self.scan - self.start >= self.max_value_bytes {
                if self.state == State::Scalar && is_delimiter(byte) {
                    return Ok(Some(self.start..self.scan));
                }
                return Err(FramingError::TooLarge { limit: self.max_value_bytes });
            }
            let complete = match self.state {
                State::Between => {
                    self.begin(byte)?;
                    false
                }
                State::Structure => self.structure(byte)?,
                State::Text => self.text(),
                State::Escape => {
                    self.state = State::Text;
                    self.scan += 1;
                    false
                }
                State::Scalar if is_delimiter(byte) => true,
                State::Scalar if is_scalar(byte) => {
                    self.scan += 1;
                    false
                }
                State::Scalar => return Err(FramingError::UnexpectedByte { byte }),
            };
            if complete {
                return Ok(Some(self.start..self.scan));
            }
        }
        match self.state {
            State::Scalar if self.ended => Ok(Some(self.start..self.scan)),
            State::Between => Ok(None),
            _ if self.ended => Err(FramingError::Incomplete),
            _ => Ok(None),
        }
    }

    /// Handles a byte between two values.
    fn begin(&mut self, byte: u8) -> Result<(), FramingError> {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => self.start = self.scan + 1,
            b'{' | b'[' => self.open(byte)?,
            b'"' => self.state = State::Text,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.state = State::Scalar,
            b'}' | b']' => return Err(FramingError::Mismatched { found: char::from(byte) }),
            _ => return Err(FramingError::UnexpectedByte { byte }),
        }
        self.scan += 1;
        Ok(())
    }

    /// Handles a byte inside an array or object; true when it completes the value.
    fn structure(&mut self, byte: u8) -> Result<bool, FramingError> {
        match byte {
            b'"' => self.state = State::Text,
            b'{' | b'[' => self.open(byte)?,
            b'}' | b']' => {
                if (self.kinds & 1 == 1) != (byte == b'}') {
                    return Err(FramingError::Mismatched { found: char::from(byte) });
                }
                self.kinds >>= 1;
                self.depth -= 1;
            }
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {}
            _ if is_scalar(byte) => {}
            _ => return Err(FramingError::UnexpectedByte { byte }),
        }
        self.scan += 1;
        Ok(self.depth == 0)
    }

    /// Runs through a string up to a quote, a backslash, or the end of what may be looked at; true
    /// when the string was the whole value and is complete.
    fn text(&mut self) -> bool {
        let end = self.buf.len().min(self.start.saturating_add(self.max_value_bytes));
        let rest = &self.buf[self.scan..end];
        let Some(offset) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
            self.scan = end;
            return false;
        };
        let quote = rest[offset] == b'"';
        self.scan += offset + 1;
        self.state = match (quote, self.depth) {
            (false, _) => State::Escape,
            (true, 0) => return true,
            (true, _) => State::Structure,
        };
        false
    }

    /// Enters an array or object.
    fn open(&mut self, byte: u8) -> Result<(), FramingError> {
        if self.depth == self.max_depth {
            return Err(FramingError::TooDeep { limit: self.max_depth });
        }
        self.depth += 1;
        self.kinds = (self.kinds << 1) | u128::from(byte == b'{');
        self.state = State::Structure;
        Ok(())
    }
}

/// Bytes that end a number or literal which stands alone.
fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'[' | b']' | b'{' | b'}' | b',' | b':')
}

/// Bytes of numbers and of `true`, `false` and `null`.
fn is_scalar(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'E')
        || matches!(byte, b'a' | b'e' | b'f' | b'l' | b'n' | b'r' | b's' | b't' | b'u')
}

#[cfg(test)]
mod tests;
