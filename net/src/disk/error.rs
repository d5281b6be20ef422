//! What the operating system's error numbers mean to the core.

use mainspring_core::io::{DiskError, DiskErrorKind, FileName};
use rustix::io::Errno;

/// A failed system call, before it is known which operation it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) kind: DiskErrorKind,
    pub(super) message: String,
}

impl Failure {
    /// A failure that no system call reported.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self { kind: DiskErrorKind::Other, message: message.into() }
    }

    /// A failed flush. Whatever its number is, what was written before it may be lost.
    pub(super) fn flush(errno: Errno) -> Self {
        Self { kind: DiskErrorKind::Flush, message: words(errno) }
    }

    /// Says which operation failed.
    pub(super) fn of(self, operation: &'static str, file: &FileName) -> DiskError {
        DiskError { operation, file: file.clone(), kind: self.kind, message: self.message }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT => DiskErrorKind::NotFound,
            Errno::EXIST | Errno::NOTEMPTY => DiskErrorKind::AlreadyExists,
            Errno::NOSPC | Errno::DQUOT => DiskErrorKind::NoSpace,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => {
                DiskErrorKind::Exhausted
            }
            Errno::ACCESS | Errno::ROFS | Errno::PERM => DiskErrorKind::NotPermitted,
            _ => DiskErrorKind::Other,
        };
        Self { kind, message: words(errno) }
    }
}

/// Returns the operating system's words for an error number, without the number.
fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_missing_descriptors_are_no_disk_faults() {
        let kinds = [
            (Errno::NOSPC, DiskErrorKind::NoSpace),
            (Errno::DQUOT, DiskErrorKind::NoSpace),
            (Errno::MFILE, DiskErrorKind::Exhausted),
            (Errno::NFILE, DiskErrorKind::Exhausted),
            (Errno::NOMEM, DiskErrorKind::Exhausted),
            (Errno::ACCESS, DiskErrorKind::NotPermitted),
            (Errno::ROFS, DiskErrorKind::NotPermitted),
            (Errno::NOENT, DiskErrorKind::NotFound),
            (Errno::IO, DiskErrorKind::Other),
        ];
        for (errno, kind) in kinds {
            assert_eq!(Failure::from(errno).kind, kind, "{errno:?}");
        }
    }

    #[test]
    fn any_error_of_a_flush_is_a_failed_flush() {
        for errno in [Errno::IO, Errno::NOSPC, Errno::INTR, Errno::DQUOT] {
            assert_eq!(Failure::flush(errno).kind, DiskErrorKind::Flush, "{errno:?}");
        }
    }

    #[test]
    fn the_words_carry_no_number() {
        assert_eq!(Failure::from(Errno::NOSPC).message, "No space left on device");
    }
}
