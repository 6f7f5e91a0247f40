//! The lists that sets and feeds are filled from: a file, or a folder of files. A list that gives nothing keeps what it held before,
//! where somebody kept that: a download that failed must not open the gate.

use std::path::{Path, PathBuf};

use super::file::{Unreadable, read_bytes};
use super::{Loader, MOST_LIST_BYTES, Stamp};
use crate::address::AddressSet;
use crate::diagnostic::Severity;
use crate::list::{self, BadLine, List};
use crate::plan::Position;
use crate::read::{ListFile, MOST_RANGES, SetDraft};
use crate::report::Report;
use crate::time::Timestamp;
use crate::tree::Span;

/// Most files of a folder that is a list.
pub const MOST_LIST_FILES: usize = 1_000;

/// Endings of files that editors, package managers and downloads leave beside the lists of a folder.
const NO_LISTS: [&str; 9] = [
    "~",
    ".swp",
    ".swx",
    ".tmp",
    ".part",
    ".new",
    ".bak",
    ".lock",
    ".dpkg-dist",
];

/// Remembers what lists held, for when they hold nothing.
pub trait Keeper {
    /// This list was read and is good. An empty one says of itself that it is meant so.
    fn keep(&mut self, path: &Path, is_feed: bool, addresses: &AddressSet);

    /// What the list of this path held when it was good last; if the path is a folder's, what each of its files held.
    fn recall(&mut self, path: &Path, is_feed: bool) -> Vec<Kept>;
}

/// What a list held when it was good last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// Its addresses.
    pub addresses: AddressSet,
    /// When they were first read.
    pub read: Timestamp,
}

/// Keeps nothing: a list without addresses is empty, one that is gone an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKept;

impl Keeper for NothingKept {
    fn keep(&mut self, _: &Path, _: bool, _: &AddressSet) {}

    fn recall(&mut self, _: &Path, _: bool) -> Vec<Kept> {
        Vec::new()
    }
}

/// A list file of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedList {
    /// The set or feed that it is a list of.
    pub set: String,
    /// Whether that is a feed.
    pub is_feed: bool,
    /// The file.
    pub path: PathBuf,
    /// Ranges of addresses in it, overlapping and adjacent ones merged.
    pub ranges: usize,
    /// Lines that could not be read.
    pub bad_lines: usize,
    /// The first few of them, with their places.
    pub first_bad: Vec<String>,
    /// Set when what it held before is used.
    pub stale: Option<Stale>,
}

/// Why a list is not used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Completes the sentence `the file …`.
    pub why: String,
    /// When what is used was first read.
    pub read: Timestamp,
}

impl Loader {
    /// Adds the addresses of a set's list, be it a file or a folder.
    pub(super) fn read_list(&mut self, draft: &mut SetDraft, keeper: &mut dyn Keeper) {
        let Some(wanted) = draft.list.clone() else {
            return;
        };
        let path = self.report.base(wanted.span.file).join(&wanted.path);
        self.list_bytes_left = MOST_LIST_BYTES;
        // Whether there is a folder is asked once: what comes later is the next reading's.
        if !path.is_dir() {
            self.read_list_file(&path, &wanted, draft, keeper);
            return;
        }
        self.folders.push(path.clone());
        self.stamp(&path, Stamp::of(&path));
        match list_files(&path) {
            Ok(files) if files.len() > MOST_LIST_FILES => {
                let message = format!("the folder {} holds {} lists", path.display(), files.len());
                self.report
                    .error(wanted.span, "too-many", message)
                    .expected(format!("at most {MOST_LIST_FILES}"));
            }
            Ok(files) if files.is_empty() => {
                if !self.recall(&path, &wanted, draft, keeper, "holds no lists any more") {
                    let message = format!("the folder {} holds no lists", path.display());
                    self.report
                        .warning(wanted.span, "empty-list", message)
                        .expected(
                            "files of addresses; hidden, temporary and backup files are left alone",
                        );
                }
            }
            Ok(files) => {
                for file in files {
                    self.read_list_file(&file, &wanted, draft, keeper);
                }
            }
            Err(error) => {
                let unreadable = Unreadable::from(error);
                if !self.recall(&path, &wanted, draft, keeper, &unreadable.why()) {
                    unreadable.tell(&path, wanted.span, &mut self.report);
                }
            }
        }
    }

    fn read_list_file(
        &mut self,
        path: &Path,
        wanted: &ListFile,
        draft: &mut SetDraft,
        keeper: &mut dyn Keeper,
    ) {
        if !self.files.iter().any(|file| file == path) {
            self.files.push(path.to_owned());
        }
        let bytes = match read_bytes(path, self.list_bytes_left) {
            Ok((bytes, stamp)) => {
                self.stamp(path, Some(stamp));
                self.list_bytes_left -= bytes.len() as u64;
                bytes
            }
            Err(unreadable) => {
                // One that is there and cannot be read may be readable without having changed.
                self.stamp(path, None);
                if !self.recall(path, wanted, draft, keeper, &unreadable.why()) {
                    unreadable.tell(path, wanted.span, &mut self.report);
                }
                return;
            }
        };
        let mut list = list::read(&bytes, wanted.format, draft.is_feed, MOST_RANGES);
        drop(bytes);
        let addresses = AddressSet::from_ranges(std::mem::take(&mut list.ranges));
        let is_meant = !addresses.is_empty() || list.says_empty;
        if !is_meant && !list.is_cut {
            let why = if list.bad_count > 0 {
                "holds no line that can be read"
            } else {
                "is empty"
            };
            if self.recall(path, wanted, draft, keeper, why) {
                return;
            }
        }
        tell_of_list(
            &list,
            addresses.is_empty() && draft.ranges.is_empty() && !list.says_empty,
            path,
            wanted.span,
            &mut self.report,
        );
        if list.is_cut {
            return;
        }
        if is_meant {
            keeper.keep(path, draft.is_feed, &addresses);
        }
        self.lists.push(LoadedList {
            set: draft.name.clone(),
            is_feed: draft.is_feed,
            path: path.to_owned(),
            ranges: addresses.ranges().len(),
            bad_lines: list.bad_count,
            first_bad: list.bad.iter().map(|bad| bad.shown(path)).collect(),
            stale: None,
        });
        draft.ranges.extend_from_slice(addresses.ranges());
    }

    /// Uses what the list held before, if that was kept, and says so.
    fn recall(
        &mut self,
        path: &Path,
        wanted: &ListFile,
        draft: &mut SetDraft,
        keeper: &mut dyn Keeper,
        why: &str,
    ) -> bool {
        let kept = keeper.recall(path, draft.is_feed);
        for kept in &kept {
            let ranges = kept.addresses.ranges();
            draft.ranges.extend_from_slice(ranges);
            let message = format!(
                "{} {why}; what it held on {} is used",
                kept.path.display(),
                kept.read
            );
            self.report.warning(wanted.span, "stale-list", message);
            if !self.files.contains(&kept.path) {
                self.files.push(kept.path.clone());
                self.stamp(&kept.path, None);
            }
            self.lists.push(LoadedList {
                set: draft.name.clone(),
                is_feed: draft.is_feed,
                path: kept.path.clone(),
                ranges: ranges.len(),
                bad_lines: 0,
                first_bad: Vec::new(),
                stale: Some(Stale {
                    why: why.to_owned(),
                    read: kept.read,
                }),
            });
        }
        !kept.is_empty()
    }
}

/// The files of a folder that look like lists, in the order of their names.
pub(super) fn list_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_other = name.starts_with('.') || NO_LISTS.iter().any(|end| name.ends_with(end));
        let path = entry.path();
        if !is_other && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One diagnostic at most for what is wrong with a list, however much that is.
fn tell_of_list(list: &List, is_empty: bool, path: &Path, near: Span, report: &mut Report) {
    let name = path.display().to_string();
    let place = |line, column| Position {
        file: name.clone(),
        line,
        column,
    };
    if list.is_cut {
        let message = "the list holds too many addresses".to_owned();
        report
            .add(near, Severity::Error, "too-many", message, place(1, 1))
            .expected(format!(
                "at most {MOST_RANGES} addresses, prefixes and ranges"
            ));
        return;
    }
    if list.bad_count > 0 {
        let nothing = is_empty.then_some("no line holds an address");
        tell_of_bad_lines(&list.bad, list.bad_count, nothing, path, near, report);
    } else if is_empty {
        let message = if list.names_only > 0 {
            format!(
                "the list names {} hosts and no address: a list of domains cannot fill a set of addresses",
                list.names_only
            )
        } else {
            "the list is empty".to_owned()
        };
        report.add(near, Severity::Warning, "empty-list", message, place(1, 1));
    }
}

/// How many lines of a list were skipped, and the first of them; `nothing` says that no line is left.
pub(super) fn tell_of_bad_lines(
    bad: &[BadLine],
    count: usize,
    nothing: Option<&str>,
    path: &Path,
    near: Span,
    report: &mut Report,
) {
    let lines = if count == 1 { "line is" } else { "lines are" };
    let shown: Vec<String> = bad.iter().map(|bad| bad.shown(path)).collect();
    let more = if count > bad.len() { ", …" } else { "" };
    let only = nothing.map_or_else(String::new, |nothing| format!(", and {nothing}"));
    let message = format!("{count} {lines} skipped{only}: {}{more}", shown.join(", "));
    let first = bad.first();
    let place = Position {
        file: path.display().to_string(),
        line: first.map_or(1, |first| first.line),
        column: first.map_or(1, |first| first.column),
    };
    report.add(near, Severity::Warning, "bad-lines", message, place);
}
