//! The bearer token (RFC 6750) that lets a caller change something.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use thiserror::Error;

/// The shortest token, in bytes: 128 bits in base64 without padding are 22, in hexadecimal 32.
const BYTES_MIN: usize = 16;

/// The longest token, in bytes.
const BYTES_MAX: usize = 4096;

/// A secret. It is never shown.
#[derive(Clone)]
pub struct BearerToken(Vec<u8>);

/// Why a file is no token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error("token file {path:?}: cannot read it: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can get at it, or it is not the right kind of file.
    #[error("token file {path:?} {problem}")]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Its content is no token.
    #[error("token file {path:?}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl BearerToken {
    /// Reads the token of a file: one line, white space around it is ignored.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the file is not a regular one, belongs to somebody else than the
    /// process or root, is open to group or others, or holds anything but 16 to 4096 characters
    /// that RFC 6750 (section 2.1) allows.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let read = |source| TokenError::Read { path: path.to_owned(), source };
        let refuse = |problem: String| TokenError::Unsafe { path: path.to_owned(), problem };
        // A FIFO would wait for its writer.
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(read)?;
        let facts = file.metadata().map_err(read)?;
        if !facts.is_file() {
            return Err(refuse("is no regular file".to_owned()));
        }
        let (owner, own) = (facts.uid(), nix::unistd::geteuid().as_raw());
        if owner != own && owner != 0 {
            let words = format!("belongs to user {owner}; it has to be user {own}'s or root's");
            return Err(refuse(words));
        }
        let mode = facts.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let words = format!("has mode {mode:04o}: others can get at it; chmod it to 0600");
            return Err(refuse(words));
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
        Self::parse(&bytes)
            .map_err(|problem| TokenError::Content { path: path.to_owned(), problem })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let token = bytes.trim_ascii();
        if !(BYTES_MIN..=BYTES_MAX).contains(&token.len()) || bytes.len() > BYTES_MAX {
            let found =
                if bytes.len() > BYTES_MAX { "more".to_owned() } else { token.len().to_string() };
            return Err(format!(
                "it holds {found} characters; {BYTES_MIN} to {BYTES_MAX} are a token"
            ));
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        if !token.iter().all(allowed) {
            return Err("it may hold letters, digits and -._~+/= only".to_owned());
        }
        Ok(Self(token.to_vec()))
    }

    /// Whether this is the token. The time it takes does not tell where a wrong one differs.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        let differs = self.0.iter().zip(given).fold(0, |found, (own, other)| found | (own ^ other));
        self.0.len() == given.len() && std::hint::black_box(differs) == 0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// A token without a file.
#[cfg(test)]
pub(super) fn tests_token(text: &str) -> BearerToken {
    BearerToken::parse(text.as_bytes()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn a_file_of_the_owner_alone_holds_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            BearerToken::read(&path).map_err(|error| error.to_string())
        };
        for mode in [0o600, 0o400, 0o700] {
            let token = read(&format!(" {GOOD}\n"), mode).unwrap();
            assert!(token.is(GOOD.as_bytes()) && !token.is(b"0123456789abcdeF"));
            assert!(
                !token.is(&GOOD.as_bytes()[1..])
                    && !token.is(b"")
                    && !token.is(b"0123456789abcdef0")
            );
            assert_eq!(format!("{token:?}"), "BearerToken", "it is never shown");
        }
        for mode in [0o640, 0o604, 0o610, 0o602] {
            let words = read(GOOD, mode).unwrap_err();
            assert!(words.contains(&format!("{mode:04o}")) && words.contains("0600"), "{words}");
        }
        for (content, words) in [
            ("", "it holds 0 characters"),
            ("0123456789abcde\n", "it holds 15 characters"),
            ("0123456789 abcdef", "letters, digits"),
            ("0123456789abcdef\n0123456789abcdef", "letters, digits"),
            (&"x".repeat(5000), "more characters"),
        ] {
            let error = read(content, 0o600).unwrap_err();
            assert!(error.contains(words) && error.contains("token"), "{content}: {error}");
        }
        assert!(BearerToken::read(dir.path()).is_err(), "a directory");
        let missing = BearerToken::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none") && missing.contains("cannot read"), "{missing}");
    }
}
