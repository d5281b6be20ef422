//! The cluster's secret: one line of a file, the same on all nodes.
//!
//! `mainspring-cluster-secret-v1:` and, in hexadecimal digits, 32 random bytes and four bytes of their SHA-256,
//! by which a line that was cut or mistyped is told from another cluster's. A file may hold two lines, and
//! lines that are empty or begin with `#`. No error repeats what stands in it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use super::authority;

/// Before the digits of a secret, with the version of the form.
const PREFIX: &str = "mainspring-cluster-secret-v1:";
const SECRET_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;
/// Most bytes of a file.
const FILE_MAX: u64 = 4096;
/// Most secrets at once: the one that is presented, and the one before or after it.
const SECRETS_MAX: usize = 2;
/// What others than the owner may do with the file: its group may read it, as where a container platform
/// mounts secrets.
const OTHERS_MAY: u32 = 0o040;

/// What all nodes of a cluster know and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; SECRET_BYTES]);

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

/// Why there is no secret to be had from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read or made.
    #[error("{0}")]
    File(#[source] io::Error),
    /// The file is there already.
    #[error("the file is there already")]
    Exists,
    /// Others than its owner may read or change it.
    #[error("its mode {0:04o} lets others than its owner in")]
    Exposed(u32),
    /// A line of it is no secret.
    #[error("line {line} is no cluster secret: {why}")]
    Line {
        /// Which one, from 1 on.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It holds none, or too many.
    #[error("{0} secrets were given, and one or two are taken")]
    Count(usize),
}

impl ClusterSecret {
    /// Draws one from the operating system's randomness.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// Reads the secrets of one or several files, in their order: the first is presented, all are accepted.
    ///
    /// # Errors
    /// Names the file.
    pub fn load(paths: &[PathBuf]) -> Result<Vec<Self>, (PathBuf, SecretError)> {
        let mut secrets: Vec<Self> = Vec::new();
        for path in paths {
            for secret in read(path).map_err(|error| (path.clone(), error))? {
                if !secrets.contains(&secret) {
                    secrets.push(secret);
                }
            }
            if secrets.is_empty() || secrets.len() > SECRETS_MAX {
                return Err((path.clone(), SecretError::Count(secrets.len())));
            }
        }
        Ok(secrets)
    }

    /// Writes the secret to a new file that only its owner may read.
    pub fn write(&self, path: &Path) -> Result<(), SecretError> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|error| {
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            if is_there { SecretError::Exists } else { SecretError::File(error) }
        })?;
        let written = file.write_all(self.line().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| {
            // Half a secret helps nobody; where it stays the next attempt says that it is there.
            let _ = std::fs::remove_file(path);
            SecretError::File(error)
        })
    }

    /// Returns what tells one secret from another in front of people; nobody can guess the secret from it.
    pub fn fingerprint(&self) -> String {
        authority::fingerprint(self)
    }

    /// Returns the 32 bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) const fn of(byte: u8) -> Self {
        Self([byte; SECRET_BYTES])
    }

    fn line(&self) -> String {
        format!("{PREFIX}{}{}\n", hex(&self.0), hex(&check(&self.0)))
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let digits = line.strip_prefix(PREFIX).ok_or("it does not begin as one of this version")?;
        let bytes = unhex(digits).ok_or("it holds something else than hexadecimal digits")?;
        let Some((secret, sum)) = bytes.split_first_chunk::<SECRET_BYTES>() else {
            return Err("it is too short");
        };
        if sum != check(secret) {
            return Err("its digits do not fit together: it was cut or mistyped");
        }
        Ok(Self(*secret))
    }
}

fn read(path: &Path) -> Result<Vec<ClusterSecret>, SecretError> {
    let file = File::open(path).map_err(SecretError::File)?;
    let metadata = file.metadata().map_err(SecretError::File)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 & !OTHERS_MAY != 0 {
        return Err(SecretError::Exposed(mode));
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(SecretError::File)?;
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, text)| {
            ClusterSecret::parse(text).map_err(|why| SecretError::Line { line, why })
        })
        .collect()
}

fn check(secret: &[u8]) -> [u8; CHECK_BYTES] {
    *digest(&SHA256, secret).as_ref().first_chunk().expect("a digest has 32 bytes")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_support::TempDir;

    fn file(directory: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        path
    }

    fn refused(paths: &[PathBuf]) -> String {
        ClusterSecret::load(paths).expect_err("it is refused").1.to_string()
    }

    #[test]
    fn a_written_secret_is_read_again_and_is_for_its_owner_alone() {
        let directory = TempDir::new();
        let path = directory.path().join("secret");
        let secret = ClusterSecret::generate().expect("there is randomness");
        secret.write(&path).expect("it is new");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = ClusterSecret::load(std::slice::from_ref(&path)).expect("it is whole");
        assert_eq!(loaded, std::slice::from_ref(&secret));
        assert!(matches!(secret.write(&path), Err(SecretError::Exists)));
        let other = ClusterSecret::generate().expect("there is randomness");
        assert_ne!(secret, other);
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = TempDir::new();
        let line = ClusterSecret([7; 32]).line();
        for (mode, fine) in
            [(0o600, true), (0o400, true), (0o440, true), (0o644, false), (0o660, false)]
        {
            let path = file(&directory, &format!("{mode:o}"), &line, mode);
            let loaded = ClusterSecret::load(&[path]);
            assert_eq!(loaded.is_ok(), fine, "{mode:o}");
        }
    }

    #[test]
    fn two_secrets_come_from_two_lines_or_two_files_in_their_order() {
        let directory = TempDir::new();
        let (old, new) = (ClusterSecret([1; 32]), ClusterSecret([2; 32]));
        let both = format!("# since May\n{}\n\n  {}", new.line(), old.line());
        let both = file(&directory, "both", &both, 0o600);
        let loaded = ClusterSecret::load(std::slice::from_ref(&both)).expect("two");
        assert_eq!(loaded, [new.clone(), old.clone()]);
        let single = [("new", &new), ("old", &old)]
            .map(|(name, secret)| file(&directory, name, &secret.line(), 0o600));
        assert_eq!(ClusterSecret::load(&single).expect("two"), [new, old]);
        let third = file(&directory, "third", &ClusterSecret([3; 32]).line(), 0o600);
        assert!(refused(&[both, third]).contains("3 secrets"));
        assert!(refused(&[file(&directory, "none", "# nothing\n", 0o600)]).contains("0 secrets"));
    }

    #[test]
    fn what_is_no_secret_is_told_without_being_repeated() {
        let directory = TempDir::new();
        let line = ClusterSecret([0xab; 32]).line();
        let mistyped = line.replacen("abab", "abac", 1);
        for (name, text, says) in [
            ("cut", &line[..line.len() - 3], "cut or mistyped"),
            ("odd", &line[..line.len() - 2], "something else"),
            ("short", &line[..PREFIX.len() + 20], "too short"),
            ("mistyped", mistyped.as_str(), "cut or mistyped"),
            ("strange", "\nabab\n", "line 2"),
            ("later", "mainspring-cluster-secret-v2:abab", "this version"),
        ] {
            let said = refused(&[file(&directory, name, text, 0o600)]);
            assert!(said.contains(says), "{name}: {said}");
            assert!(!said.contains("abab"), "{said}");
        }
        assert!(matches!(
            ClusterSecret::load(&[directory.path().join("nowhere")]),
            Err((_, SecretError::File(_)))
        ));
    }
}
