//! The loader: reads the policy, its includes and its lists. The only part of this crate that touches the file system; what
//! the texts mean is decided in the pure modules that it calls.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity};
use crate::list::{self, BadLine, List};
use crate::plan::Position;
use crate::policy::Policy;
use crate::read::{self, MOST_RANGES, SetDraft, Sets, Written};
use crate::report::{Report, Source};
use crate::tree::{Entry, Span};

mod include;
mod names;

/// Largest policy file, includes each by itself: 16 MiB.
pub const MOST_POLICY_BYTES: u64 = 16 << 20;
/// Largest list file: 256 MiB.
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
    /// Every folder that was included; a file that appears in one is such a reason too.
    pub folders: Vec<PathBuf>,
}

/// Loads a policy from a file; its extension says the form, else its first line does. Never fails: what is wrong is in the
/// diagnostics.
///
/// The names of `[dns]` are hashed with a seed that everybody knows: for showing and checking. Whoever enforces takes
/// [`load_path_seeded`].
pub fn load_path(path: &Path) -> Loaded {
    load_path_seeded(path, 0)
}

/// [`load_path`] with a seed that senders cannot know: see [`crate::names`].
pub fn load_path_seeded(path: &Path, seed: u64) -> Loaded {
    let mut loader = Loader::seeded(seed);
    let name = path.display().to_string();
    loader.files.push(path.to_owned());
    match read_text(path, MOST_POLICY_BYTES) {
        Ok(text) => {
            let format = Format::of_path(path).unwrap_or_else(|| Format::sniff(&text));
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            loader.enter(path);
            loader.text(name, base, text, format);
        }
        Err(unreadable) => {
            let source = Source::new(name, PathBuf::new(), String::new());
            let file = loader.report.add_source(source);
            unreadable.tell(path, Span::new(file, 0, 0), &mut loader.report);
        }
    }
    loader.finish()
}

/// Loads a policy from a text. `name` stands for the file in positions; relative paths in the text begin at `base`.
/// Of the seed the same holds as for [`load_path`].
pub fn load_text(name: &str, text: &str, format: Format, base: &Path) -> Loaded {
    load_text_seeded(name, text, format, base, 0)
}

/// [`load_text`] with a seed that senders cannot know: see [`crate::names`].
pub fn load_text_seeded(name: &str, text: &str, format: Format, base: &Path, seed: u64) -> Loaded {
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
    loader.finish()
}

/// Collects the parts of a policy from its files.
#[derive(Default)]
struct Loader {
    report: Report,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
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

    /// Parses one file and takes it in.
    fn text(&mut self, name: String, base: PathBuf, text: String, format: Format) {
        let source = Source::new(name, base, text);
        let file = self.report.add_source(source);
        let table = match format {
            Format::Toml => crate::toml::parse(file, &mut self.report),
            Format::Json => crate::json::parse(file, &mut self.report),
            Format::RulesTxt => crate::rules::parse(file, &mut self.report),
        };
        self.take_in(table);
    }

    fn finish(mut self) -> Loaded {
        let mut drafts = read::sets(&self.sets, &mut self.report);
        for draft in &mut drafts {
            self.read_list(draft);
        }
        let sets = Sets::new(drafts, self.is_incomplete, &mut self.report);
        let (mut plan, dns) = read::policy(&self.written, sets, &mut self.report);
        plan.dns = dns.map(|draft| self.dns(draft));
        let policy = (!self.report.has_errors()).then(|| Policy {
            plan,
            files: self.files.clone(),
        });
        Loaded {
            policy,
            diagnostics: self.report.finish(),
            files: self.files,
            folders: self.folders,
        }
    }

    /// Adds the addresses of a set's list file.
    fn read_list(&mut self, draft: &mut SetDraft) {
        let Some(wanted) = &draft.list else {
            return;
        };
        let path = self.report.base(wanted.span.file).join(&wanted.path);
        if !self.files.contains(&path) {
            self.files.push(path.clone());
        }
        let bytes = match read_bytes(&path, MOST_LIST_BYTES) {
            Ok(bytes) => bytes,
            Err(unreadable) => {
                unreadable.tell(&path, wanted.span, &mut self.report);
                return;
            }
        };
        let mut list = list::read(&bytes, wanted.format, MOST_RANGES);
        draft.ranges.append(&mut list.ranges);
        tell_of_list(
            &list,
            draft.ranges.is_empty(),
            &path,
            wanted.span,
            &mut self.report,
        );
    }
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
        tell_of_bad_lines(&list.bad, list.bad_count, nothing, &name, near, report);
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
fn tell_of_bad_lines(
    bad: &[BadLine],
    count: usize,
    nothing: Option<&str>,
    file: &str,
    near: Span,
    report: &mut Report,
) {
    let lines = if count == 1 { "line is" } else { "lines are" };
    let shown: Vec<String> = bad
        .iter()
        .map(|bad| format!("{file}:{}:{} {}", bad.line, bad.column, bad.what))
        .collect();
    let more = if count > bad.len() { ", …" } else { "" };
    let only = nothing.map_or_else(String::new, |nothing| format!(", and {nothing}"));
    let message = format!("{count} {lines} skipped{only}: {}{more}", shown.join(", "));
    let place = Position {
        file: file.to_owned(),
        line: bad.first().map_or(1, |first| first.line),
        column: bad.first().map_or(1, |first| first.column),
    };
    report.add(near, Severity::Warning, "bad-lines", message, place);
}

/// Why a file could not be read.
enum Unreadable {
    Missing,
    NoFile,
    TooLarge(u64),
    NotUtf8 { line: u32, column: u32 },
    Io(std::io::Error),
}

impl Unreadable {
    /// Says it at the place that named the file.
    fn tell(&self, path: &Path, span: Span, report: &mut Report) {
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
            Self::Io(error) => {
                let message = format!("{shown} cannot be read: {error}");
                report.error(span, "unreadable", message)
            }
        };
    }
}

fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Io(error),
    };
    let metadata = path.metadata().map_err(failed)?;
    // A pipe could block for ever, a device never end.
    if !metadata.is_file() {
        return Err(Unreadable::NoFile);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Unreadable::TooLarge(most));
    }
    Ok(bytes)
}

fn read_text(path: &Path, most: u64) -> Result<String, Unreadable> {
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
