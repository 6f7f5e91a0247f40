//! One file: its bytes as they stood at one moment, and what tells that moment from a later one.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::diagnostic::Severity;
use crate::plan::Position;
use crate::report::Report;
use crate::time::Timestamp;
use crate::tree::Span;

/// How often a file that changes while it is read is read again.
const TRIES: usize = 5;

/// What a file is at one moment. Another one means that the file has changed, was put in its place, or that a link on the
/// way to it leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds. A user can set it, and tools that copy do.
    modified: (i64, i64),
    /// The same, of the kernel's own: no user can set it.
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file or folder as it is now; `None` when there is none that can be asked.
    pub fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&path.metadata().ok()?))
    }

    /// When its content was changed, as far as its owner tells the truth; before 1970 is 1970.
    pub fn modified(self) -> Timestamp {
        let (seconds, nanos) = self.modified;
        let seconds = u64::try_from(seconds)
            .unwrap_or(0)
            .saturating_mul(1_000_000_000);
        Timestamp::from_nanos(seconds.saturating_add(u64::try_from(nanos).unwrap_or(0)))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Missing,
    NoFile,
    TooLarge(u64),
    NotUtf8 {
        line: u32,
        column: u32,
    },
    /// Somebody writes to it without a pause.
    Changing,
    Io(std::io::Error),
}

impl Unreadable {
    /// Says it at the place that named the file.
    pub(super) fn tell(&self, path: &Path, span: Span, report: &mut Report) {
        let shown = path.display();
        match self {
            Self::Missing => report
                .error(span, "missing-file", format!("there is no file {shown}"))
                .expected("a path that is absolute, or relative to the file that names it"),
            Self::NoFile => report
                .error(span, "unreadable", format!("{shown} is no file"))
                .expected("a regular file"),
            Self::TooLarge(most) => report
                .error(span, "too-large", format!("{shown} is too large"))
                .expected(format!("at most {}", crate::quantity::show_bytes(*most))),
            Self::NotUtf8 { line, column } => {
                let message = "the file is not UTF-8 from here on".to_owned();
                let place = Position {
                    file: shown.to_string(),
                    line: *line,
                    column: *column,
                };
                report.add(span, Severity::Error, "not-utf8", message, place)
            }
            Self::Changing => {
                let message = format!("{shown} changes while it is read");
                report
                    .error(span, "unreadable", message)
                    .expected("a file that is put in place when it is complete")
            }
            Self::Io(error) => {
                let message = format!("{shown} cannot be read: {error}");
                report.error(span, "unreadable", message)
            }
        };
    }

    /// [`Unreadable::tell`] of the policy itself, which no file names.
    pub(super) fn tell_of_policy(&self, path: &Path, span: Span, report: &mut Report) {
        match self {
            Self::Missing => {
                let message = format!("there is no file {}", path.display());
                report
                    .error(span, "missing-file", message)
                    .expected("the path of a policy");
            }
            _ => self.tell(path, span, report),
        }
    }

    /// [`Unreadable::tell`] of a list. Who reads it without memory, as `check` does, cannot know what a daemon keeps.
    pub(super) fn tell_of_list(&self, path: &Path, span: Span, report: &mut Report) {
        match self {
            Self::Missing => {
                let message = format!("there is no file {}", path.display());
                report.error(span, "missing-file", message).expected(
                    "a path that is absolute, or relative to the file that names it (a daemon that has read this list before goes on with what it held)",
                );
            }
            _ => self.tell(path, span, report),
        }
    }

    /// Completes the sentence `the file …`.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Missing => "is gone".to_owned(),
            Self::NoFile => "is no file any more".to_owned(),
            Self::TooLarge(most) => {
                format!("is larger than {}", crate::quantity::show_bytes(*most))
            }
            Self::NotUtf8 { .. } => "is not UTF-8".to_owned(),
            Self::Changing => "changes while it is read".to_owned(),
            Self::Io(error) => format!("cannot be read ({error})"),
        }
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// The bytes of a file as they were all of it at one moment: one that changes meanwhile is read again.
pub(super) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    for _ in 0..TRIES {
        // A pipe could block for ever, a device never end.
        if !path.metadata()?.is_file() {
            return Err(Unreadable::NoFile);
        }
        let file = File::open(path)?;
        let before = file.metadata()?;
        let mut bytes = Vec::with_capacity(before.size().min(most) as usize + 1);
        (&file).take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(Unreadable::TooLarge(most));
        }
        if Stamp::from(&file.metadata()?) == Stamp::from(&before) {
            return Ok(bytes);
        }
    }
    Err(Unreadable::Changing)
}

/// [`read_bytes`] of a text.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String, Unreadable> {
    String::from_utf8(read_bytes(path, most)?).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = good
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let newlines = good.iter().filter(|&&byte| byte == b'\n').count();
        Unreadable::NotUtf8 {
            line: newlines as u32 + 1,
            column: String::from_utf8_lossy(&good[line_start..]).chars().count() as u32 + 1,
        }
    })
}
