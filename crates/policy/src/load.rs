//! The loader: reads the policy, its includes and its lists. The only part of this crate that touches the file system; what
//! the texts mean is decided in the pure modules that it calls.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::policy::Policy;
use crate::read::{self, Sets, Written};
use crate::report::{Report, Source};
use crate::tree::{Entry, Span};

mod file;
mod include;
mod keeper;
mod lists;
mod names;

pub use file::Stamp;
pub use keeper::{Entries, Keeper, Kept, ListKind, LoadedList, NothingKept, Stale};
pub use lists::MOST_LIST_FILES;

use file::{Unreadable, read_text};

/// Largest policy file, includes each by itself: 16 MiB.
pub const MOST_POLICY_BYTES: u64 = 16 << 20;
/// Largest list, all files of a folder together: 256 MiB.
pub const MOST_LIST_BYTES: u64 = 256 << 20;
/// How deep includes may include.
pub const DEEPEST_INCLUDE: usize = 8;

/// The form of a policy text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The main form.
    Toml,
    /// The same schema as JSON; an array at the top is the list of rules.
    Json,
    /// One rule a line.
    RulesTxt,
}

impl Format {
    /// By the extension: `.toml`, `.json`, `.txt` and `.rules`.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "txt" | "rules" => Some(Self::RulesTxt),
            _ => None,
        }
    }

    /// By the first line that says something.
    pub fn sniff(text: &str) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        let meaningful = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let Some(line) = text.lines().map(str::trim).find(meaningful) else {
            return Self::Toml;
        };
        if line.starts_with('{') {
            return Self::Json;
        }
        if let Some(rest) = line.strip_prefix('[') {
            // `[{` and a lone `[` are JSON; `[[rule]]` and `[default]` are TOML.
            let rest = rest.trim_start();
            return if rest.is_empty() || rest.starts_with(['{', ']']) {
                Self::Json
            } else {
                Self::Toml
            };
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        let second = line[first.len()..].trim_start();
        if crate::rules::is_statement(first) && !second.starts_with(['=', '.']) {
            Self::RulesTxt
        } else {
            Self::Toml
        }
    }
}

/// What came of loading.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The policy, if there is no error among the diagnostics.
    pub policy: Option<Policy>,
    /// Errors and warnings, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
    /// Every file that was read or should have been, also when there are errors: a change to one of them is a reason to load again.
    pub files: Vec<PathBuf>,
    /// Every folder that was included or is a list; a file that appears in one is such a reason too.
    pub folders: Vec<PathBuf>,
    /// What these files and folders were just before they were read; `None` for those that were not there.
    pub stamps: BTreeMap<PathBuf, Option<Stamp>>,
    /// The texts of the policy and its includes, in the order in which they were begun, with their names.
    pub texts: Vec<(String, String)>,
    /// The form of the first of them.
    pub format: Format,
    /// Each list file, in the order of the sets, those of `[dns]` last; several for a list that is a folder.
    pub lists: Vec<LoadedList>,
}

/// Loads a policy from a file; its extension says the form, else its first line does. Never fails: what is wrong is in the
/// diagnostics.
///
/// The names of `[dns]` are hashed with a seed that everybody knows: for showing and checking. Whoever enforces takes
/// [`load_path_with`].
pub fn load_path(path: &Path) -> Loaded {
    load_path_with(path, &mut NothingKept, 0)
}

/// [`load_path`], with what lists held before for those that hold nothing now, and a seed that senders cannot know (see
/// [`crate::names`]).
pub fn load_path_with(path: &Path, keeper: &mut dyn Keeper, seed: u64) -> Loaded {
    let mut loader = Loader::seeded(seed);
    let name = path.display().to_string();
    loader.files.push(path.to_owned());
    match loader.read_policy(path) {
        Ok(text) => {
            let format = Format::of_path(path).unwrap_or_else(|| Format::sniff(&text));
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            loader.enter(path);
            loader.text(name, base, text, format);
        }
        Err(unreadable) => {
            let source = Source::new(name, PathBuf::new(), String::new());
            let file = loader.report.add_source(source);
            unreadable.tell_of_policy(path, Span::new(file, 0, 0), &mut loader.report);
        }
    }
    loader.finish(keeper)
}

/// Loads a policy from a text. `name` stands for the file in positions; relative paths in the text begin at `base`.
/// Of the seed the same holds as for [`load_path`].
pub fn load_text(name: &str, text: &str, format: Format, base: &Path) -> Loaded {
    load_text_with(name, text, format, base, &mut NothingKept, 0)
}

/// [`load_text`], with what [`load_path_with`] takes beside the path.
pub fn load_text_with(
    name: &str,
    text: &str,
    format: Format,
    base: &Path,
    keeper: &mut dyn Keeper,
    seed: u64,
) -> Loaded {
    let mut loader = Loader::seeded(seed);
    if text.len() as u64 > MOST_POLICY_BYTES {
        let source = Source::new(name.to_owned(), PathBuf::new(), String::new());
        let file = loader.report.add_source(source);
        let path = Path::new(name);
        Unreadable::TooLarge(MOST_POLICY_BYTES).tell(
            path,
            Span::new(file, 0, 0),
            &mut loader.report,
        );
    } else {
        loader.text(name.to_owned(), base.to_owned(), text.to_owned(), format);
    }
    loader.finish(keeper)
}

/// Collects the parts of a policy from its files.
#[derive(Default)]
struct Loader {
    report: Report,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
    /// The form of the first text.
    format: Option<Format>,
    lists: Vec<LoadedList>,
    /// Canonical paths of the files that are being read, outermost first.
    open: Vec<PathBuf>,
    /// Canonical paths of the files that were read.
    seen: HashSet<PathBuf>,
    written: Written,
    /// Whether an include could not be read.
    is_incomplete: bool,
    /// Sets, and feeds marked with true.
    sets: Vec<(Entry, bool)>,
    /// For the hashes of names.
    seed: u64,
}

impl Loader {
    fn seeded(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    fn enter(&mut self, path: &Path) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.seen.insert(canonical.clone());
        self.open.push(canonical);
    }

    /// Reads a policy file.
    fn read_policy(&mut self, path: &Path) -> Result<String, Unreadable> {
        self.stamp(path);
        read_text(path, MOST_POLICY_BYTES)
    }

    /// Remembers what a file or folder is that will be read now, for the first time: whatever it becomes from here on, also while
    /// it is read, or when there was none to be read, is another.
    fn stamp(&mut self, path: &Path) {
        if !self.stamps.contains_key(path) {
            self.stamps.insert(path.to_owned(), Stamp::of(path));
        }
    }

    /// Parses one file and takes it in.
    fn text(&mut self, name: String, base: PathBuf, text: String, format: Format) {
        let source = Source::new(name, base, text);
        let file = self.report.add_source(source);
        self.format.get_or_insert(format);
        let table = match format {
            Format::Toml => crate::toml::parse(file, &mut self.report),
            Format::Json => crate::json::parse(file, &mut self.report),
            Format::RulesTxt => crate::rules::parse(file, &mut self.report),
        };
        self.take_in(table);
    }

    fn finish(mut self, keeper: &mut dyn Keeper) -> Loaded {
        let mut drafts = read::sets(&self.sets, &mut self.report);
        self.fill_sets(&mut drafts, keeper);
        let sets = Sets::new(drafts, self.is_incomplete, &mut self.report);
        let (mut plan, dns) = read::policy(&self.written, sets, &mut self.report);
        plan.dns = dns.map(|draft| self.dns(draft, keeper));
        let policy = (!self.report.has_errors()).then(|| Policy {
            plan,
            files: self.files.clone(),
        });
        let texts = self.report.take_texts();
        Loaded {
            policy,
            diagnostics: self.report.finish(),
            files: self.files,
            folders: self.folders,
            stamps: self.stamps,
            texts,
            format: self.format.unwrap_or(Format::Toml),
            lists: self.lists,
        }
    }
}
