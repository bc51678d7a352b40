//! Where methods may read and write files: anywhere, or below the directory of `--rpc-root`.

use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use percent_encoding::percent_decode_str;

use super::errors::{self, RpcResult};

/// The directory that methods are confined to, if there is one.
#[derive(Debug, Default)]
pub struct Roots(OnceLock<PathBuf>);

impl Roots {
    /// Confines methods to a directory that exists; the first one stays.
    ///
    /// # Errors
    /// As `canonicalize` fails.
    pub fn confine(&self, dir: &Path) -> std::io::Result<()> {
        let _ = self.0.set(dir.canonicalize()?);
        Ok(())
    }

    /// The directory, if there is one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.0.get().map(PathBuf::as_path)
    }

    /// Whether a file may be opened or created. Symbolic links count for what they lead to; what
    /// does not exist is where its directory is.
    ///
    /// # Errors
    /// EACCES, naming the path and the directory.
    pub fn check(&self, path: &Path) -> RpcResult<()> {
        let Some(root) = self.0.get() else { return Ok(()) };
        let inside = real(path).is_some_and(|real| real.starts_with(root));
        if inside {
            return Ok(());
        }
        let path: String = path.display().to_string().chars().take(100).collect();
        let words =
            format!("{path:?} is outside of {}, where --rpc-root keeps files", root.display());
        Err(errors::errno(Errno::EACCES, words))
    }

    /// As [`Roots::check`] for what a device is made of: a URI, or a path.
    ///
    /// # Errors
    /// As [`Roots::check`].
    pub fn check_uri(&self, text: &str) -> RpcResult<()> {
        if self.0.get().is_none() {
            return Ok(());
        }
        let Some((scheme, _)) = text.split_once("://") else {
            // The name of a device that is there, unless it is a path.
            return if text.starts_with('/') { self.check(Path::new(text)) } else { Ok(()) };
        };
        let Ok(uri) = crate::bdev::BdevUri::parse(text) else { return Ok(()) };
        if ["aio", "uring"].contains(&scheme)
            && let Ok(path) = uri.file_path()
        {
            self.check(Path::new(path))?;
        }
        // Devices below: of a pool, for example.
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|pair| pair.1);
        let place = place.split_once("://").map_or("", |(_, place)| place);
        for inner in values.chain([place.trim_start_matches('/')]) {
            let inner = percent_decode_str(inner).decode_utf8_lossy();
            if inner.contains("://") {
                self.check_uri(&inner)?;
            }
        }
        Ok(())
    }
}

/// Where a path leads to.
fn real(path: &Path) -> Option<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    // A link that leads nowhere would be created where it points to.
    if path.is_symlink() {
        return None;
    }
    match path.components().next_back()? {
        Component::Normal(name) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            Some(dir.unwrap_or(Path::new(".")).canonicalize().ok()?.join(name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_below_the_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir(&root).expect("created");
        std::fs::write(dir.path().join("out"), b"x").expect("written");
        std::os::unix::fs::symlink(dir.path().join("out"), root.join("link")).expect("linked");
        std::os::unix::fs::symlink(dir.path().join("new"), root.join("dangling")).expect("linked");
        let roots = Roots::default();
        roots.check(Path::new("/etc/passwd")).expect("anywhere");
        roots.confine(&root).expect("confined");
        roots.check(&root.join("new")).expect("below");
        for outside in ["../out", "link", "dangling", "..", "no/../../out", "/etc/passwd", "no/x"] {
            let error = roots.check(&root.join(outside)).expect_err(outside);
            assert_eq!(error.code(), -13, "{outside}");
        }
        let inside = root.join("d").display().to_string();
        roots.check_uri(&format!("aio://{inside}?size_mb=1")).expect("below");
        roots.check_uri("malloc:///m?size_mb=1").expect("no file");
        roots.check_uri("m").expect("a device");
        for outside in [
            "aio:///etc/passwd",
            "uring:///etc/passwd?name=a",
            "/etc/passwd",
            "pool:///p?disk=aio%3A%2F%2F%2Fetc%2Fpasswd",
        ] {
            assert_eq!(roots.check_uri(outside).expect_err(outside).code(), -13);
        }
    }
}
