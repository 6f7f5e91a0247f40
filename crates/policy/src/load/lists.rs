//! The lists that sets, feeds and `[dns]` are filled from: a file, or a folder of files. A list that gives nothing keeps what it held
//! before, where somebody kept that: a download that failed must not open the gate.

use std::path::{Path, PathBuf};

use super::file::{Unreadable, read_bytes};
use super::keeper::{Entries, Keeper, ListKind, LoadedList, Stale};
use super::{Loader, MOST_LIST_BYTES};
use crate::address::AddressSet;
use crate::diagnostic::Severity;
use crate::list::{self, BadLine, ListFormat};
use crate::names;
use crate::plan::Position;
use crate::read::{MOST_RANGES, SetDraft};
use crate::report::Report;
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

/// A list that the policy names, and how much of it can be taken.
pub(super) struct Wanted {
    pub(super) kind: ListKind,
    /// The set or feed, or the key of `[dns]`.
    pub(super) set: String,
    pub(super) path: PathBuf,
    /// Of addresses.
    pub(super) format: ListFormat,
    /// Where the path was written.
    pub(super) span: Span,
    /// Whether what it fills holds something already: then a file without entries is no news.
    pub(super) has_some: bool,
    /// Entries that there is still room for.
    pub(super) room: usize,
    /// Files that may still be read.
    pub(super) files_left: usize,
    /// Bytes that they may have, all together.
    pub(super) bytes_left: u64,
}

impl Wanted {
    pub(super) fn new(kind: ListKind, set: &str, path: PathBuf, span: Span) -> Self {
        Self {
            kind,
            set: set.to_owned(),
            path,
            format: ListFormat::default(),
            span,
            has_some: false,
            room: usize::MAX,
            files_left: MOST_LIST_FILES,
            bytes_left: MOST_LIST_BYTES,
        }
    }

    /// The most entries that there can be.
    const fn most(&self) -> usize {
        match self.kind {
            ListKind::Set | ListKind::Feed => MOST_RANGES,
            ListKind::Names => names::NameSetBuilder::MOST,
        }
    }
}

/// What takes the entries of each file.
pub(super) type Take<'a> = &'a mut dyn FnMut(&Path, Entries);

/// A list file that was read.
struct Read {
    entries: Entries,
    bad: Vec<BadLine>,
    bad_count: usize,
    /// Lines that are in order and hold no entry: names among addresses, rules about pages among names.
    others: usize,
    says_empty: bool,
    is_cut: bool,
}

impl Read {
    fn of(bytes: &[u8], wanted: &Wanted) -> Self {
        match wanted.kind {
            ListKind::Set | ListKind::Feed => {
                let is_feed = wanted.kind == ListKind::Feed;
                let list = list::read(bytes, wanted.format, is_feed, wanted.most());
                Self {
                    entries: Entries::Addresses(AddressSet::from_ranges(list.ranges)),
                    bad: list.bad,
                    bad_count: list.bad_count,
                    others: list.names_only,
                    says_empty: list.says_empty,
                    is_cut: list.is_cut,
                }
            }
            ListKind::Names => {
                let (names, tally) = names::list::entries(bytes, wanted.most());
                Self {
                    entries: Entries::Names(names),
                    bad: tally.bad,
                    bad_count: tally.bad_count,
                    others: tally.skipped,
                    says_empty: tally.says_empty,
                    is_cut: tally.is_cut,
                }
            }
        }
    }

    /// Whether it holds something, or says that it shall not.
    fn is_meant(&self) -> bool {
        !self.entries.is_empty() || self.says_empty
    }

    /// Why it is not used as it is, if what it held before can be. Completes the sentence `the file …`.
    fn fault(&self, wanted: &Wanted) -> Option<String> {
        if self.is_cut || self.entries.len() > wanted.room {
            return Some("holds more than there is room for".to_owned());
        }
        if self.is_meant() {
            return None;
        }
        let why = match (wanted.kind, self.bad_count, self.others) {
            (_, 0, 0) => "is empty",
            (ListKind::Names, 0, _) => "holds rules about pages and no name",
            _ => "holds no line that can be read",
        };
        Some(why.to_owned())
    }
}

impl Loader {
    /// Adds the addresses of the sets' lists.
    pub(super) fn fill_sets(&mut self, drafts: &mut [SetDraft], keeper: &mut dyn Keeper) {
        let written = drafts.iter().map(|draft| draft.ranges.len());
        let mut room = MOST_RANGES.saturating_sub(written.sum());
        for draft in drafts {
            let Some(list) = &draft.list else {
                continue;
            };
            let kind = if draft.is_feed {
                ListKind::Feed
            } else {
                ListKind::Set
            };
            let path = self.report.base(list.span.file).join(&list.path);
            let mut wanted = Wanted {
                format: list.format,
                has_some: !draft.ranges.is_empty(),
                room,
                ..Wanted::new(kind, &draft.name, path, list.span)
            };
            self.read_list(&mut wanted, keeper, &mut |_, entries| {
                if let Entries::Addresses(addresses) = entries {
                    draft.ranges.extend_from_slice(addresses.ranges());
                }
            });
            room = wanted.room;
        }
    }

    /// Gives the entries of a list to `take`, be it a file or a folder.
    pub(super) fn read_list(
        &mut self,
        wanted: &mut Wanted,
        keeper: &mut dyn Keeper,
        take: Take<'_>,
    ) {
        let path = wanted.path.clone();
        self.stamp(&path);
        // Whether there is a folder is asked once: what comes later is the next reading's.
        if !path.is_dir() {
            if wanted.files_left == 0 {
                self.tell_of_too_many_files(wanted, 1);
            } else {
                self.read_list_file(&path, wanted, keeper, take);
            }
            return;
        }
        self.folders.push(path.clone());
        match list_files(&path) {
            Ok(files) if files.len() > wanted.files_left => {
                self.tell_of_too_many_files(wanted, files.len());
            }
            Ok(files) if files.is_empty() => {
                if !self.recall(&path, wanted, keeper, take, "holds no lists any more") {
                    let message = format!("the folder {} holds no lists", path.display());
                    self.report
                        .warning(wanted.span, "empty-list", message)
                        .expected(
                            "files of entries; hidden, temporary and backup files are left alone",
                        );
                }
            }
            Ok(files) => {
                for file in files {
                    self.read_list_file(&file, wanted, keeper, take);
                }
            }
            Err(error) => {
                let unreadable = Unreadable::from(error);
                if !self.recall(&path, wanted, keeper, take, &unreadable.why()) {
                    unreadable.tell_of_list(&path, wanted.span, &mut self.report);
                }
            }
        }
    }

    fn tell_of_too_many_files(&mut self, wanted: &Wanted, files: usize) {
        let path = wanted.path.display();
        let message = match wanted.kind {
            ListKind::Set | ListKind::Feed => format!("the folder {path} holds {files} lists"),
            ListKind::Names => format!("with {path} [dns] names too many lists"),
        };
        self.report
            .error(wanted.span, "too-many", message)
            .expected(format!("at most {MOST_LIST_FILES}"));
    }

    fn read_list_file(
        &mut self,
        path: &Path,
        wanted: &mut Wanted,
        keeper: &mut dyn Keeper,
        take: Take<'_>,
    ) {
        if !self.files.iter().any(|file| file == path) {
            self.files.push(path.to_owned());
        }
        wanted.files_left = wanted.files_left.saturating_sub(1);
        self.stamp(path);
        let bytes = match read_bytes(path, wanted.bytes_left) {
            Ok(bytes) => bytes,
            Err(unreadable) => {
                if !self.recall(path, wanted, keeper, take, &unreadable.why()) {
                    unreadable.tell_of_list(path, wanted.span, &mut self.report);
                }
                return;
            }
        };
        wanted.bytes_left -= bytes.len() as u64;
        let read = Read::of(&bytes, wanted);
        drop(bytes);
        if let Some(why) = read.fault(wanted)
            && self.recall(path, wanted, keeper, take, &why)
        {
            return;
        }
        let is_empty = read.entries.is_empty() && !wanted.has_some && !read.says_empty;
        tell_of_list(&read, is_empty, path, wanted, &mut self.report);
        if read.is_cut {
            return;
        }
        if read.is_meant() {
            keeper.keep(path, wanted.kind, &read.entries);
        }
        self.lists.push(LoadedList {
            kind: wanted.kind,
            set: wanted.set.clone(),
            path: path.to_owned(),
            entries: read.entries.len(),
            bad_lines: read.bad_count,
            first_bad: read.bad.iter().map(|bad| bad.shown(path)).collect(),
            skipped: match wanted.kind {
                ListKind::Set | ListKind::Feed => 0,
                ListKind::Names => read.others,
            },
            stale: None,
        });
        take_in(read.entries, path, wanted, take);
    }

    /// Uses what the list held before, if that was kept, and says so.
    fn recall(
        &mut self,
        path: &Path,
        wanted: &mut Wanted,
        keeper: &mut dyn Keeper,
        take: Take<'_>,
        why: &str,
    ) -> bool {
        let mut kept = keeper.recall(path, wanted.kind);
        kept.retain(|kept| kept.entries.are_of(wanted.kind));
        // What is kept may fit no more either: then the error is about what the list is now.
        let all: usize = kept.iter().map(|kept| kept.entries.len()).sum();
        if all > wanted.room {
            return false;
        }
        let is_any = !kept.is_empty();
        for kept in kept {
            let message = format!(
                "{} {why}; what it held on {} is used",
                kept.path.display(),
                kept.read
            );
            self.report.warning(wanted.span, "stale-list", message);
            if !self.files.contains(&kept.path) {
                self.files.push(kept.path.clone());
                self.stamp(&kept.path);
            }
            self.lists.push(LoadedList {
                kind: wanted.kind,
                set: wanted.set.clone(),
                path: kept.path.clone(),
                entries: kept.entries.len(),
                bad_lines: 0,
                first_bad: Vec::new(),
                skipped: 0,
                stale: Some(Stale {
                    why: why.to_owned(),
                    read: kept.read,
                }),
            });
            take_in(kept.entries, &kept.path, wanted, take);
        }
        is_any
    }
}

fn take_in(entries: Entries, path: &Path, wanted: &mut Wanted, take: Take<'_>) {
    wanted.room = wanted.room.saturating_sub(entries.len());
    wanted.has_some |= !entries.is_empty();
    take(path, entries);
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
fn tell_of_list(read: &Read, is_empty: bool, path: &Path, wanted: &Wanted, report: &mut Report) {
    let place = Position {
        file: path.display().to_string(),
        line: 1,
        column: 1,
    };
    let (entry, entries) = match wanted.kind {
        ListKind::Set | ListKind::Feed => ("an address", "addresses, prefixes and ranges"),
        ListKind::Names => ("a name", "names"),
    };
    if read.is_cut {
        let message = "the list holds too many entries".to_owned();
        report
            .add(wanted.span, Severity::Error, "too-many", message, place)
            .expected(format!("at most {} {entries}", wanted.most()));
        return;
    }
    if read.bad_count > 0 {
        let nothing = is_empty.then(|| format!("no line holds {entry}"));
        tell_of_bad_lines(read, nothing.as_deref(), path, wanted.span, report);
    } else if is_empty {
        let message = match (wanted.kind, read.others) {
            (_, 0) => "the list is empty".to_owned(),
            (ListKind::Names, others) => {
                format!("the list holds no name: its {others} rules are about pages")
            }
            (ListKind::Set | ListKind::Feed, others) => format!(
                "the list names {others} hosts and no address: a list of domains cannot fill a set of addresses"
            ),
        };
        report.add(wanted.span, Severity::Warning, "empty-list", message, place);
    }
}

/// How many lines of a list were skipped, and the first of them; `nothing` says that no line is left.
fn tell_of_bad_lines(
    read: &Read,
    nothing: Option<&str>,
    path: &Path,
    near: Span,
    report: &mut Report,
) {
    let (bad, count) = (&read.bad, read.bad_count);
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
