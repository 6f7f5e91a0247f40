//! `include`: other files of the same policy, in any of the three forms.
//!
//! Rules of an included file stand where the include is written: before the rules of a TOML or JSON file for its top-level
//! `include`, and between two rules for a rule that has nothing but `include`, and for the statement of `rules.txt`.

use std::path::{Path, PathBuf};

use super::{DEEPEST_INCLUDE, Format, Loader, Unreadable};
use crate::diagnostic::quoted;
use crate::fields::{Fields, wrong_type};
use crate::tree::{Entry, Node, Span, Table, Value, duplicate_key};

impl Loader {
    /// Takes in the table of one file, and first what it includes.
    pub(super) fn take_in(&mut self, table: Table) {
        let mut entries = table.into_entries();
        let includes = entries.iter().position(|entry| entry.key == "include");
        if let Some(place) = includes {
            let entry = entries.remove(place);
            self.includes(&entry.value);
        }
        let mut rules: Option<Span> = None;
        for mut entry in entries {
            match entry.key.as_str() {
                "rule" | "rules" => {
                    if let Some(first) = rules.replace(entry.key_span) {
                        duplicate_key(&entry.key, entry.key_span, first, &mut self.report);
                    }
                    self.rules(entry.value);
                }
                "sets" | "feeds" => self.sets(entry),
                _ => {
                    // One [watch] is a list of one.
                    if entry.key == "watch" && matches!(entry.value.value, Value::Table(_)) {
                        let span = entry.value.span;
                        entry.value = Node::new(span, Value::List(vec![entry.value]));
                    }
                    self.written.settings.merge(entry, &mut self.report);
                }
            }
        }
    }

    fn sets(&mut self, entry: Entry) {
        let is_feed = entry.key == "feeds";
        match entry.value.value {
            Value::Table(table) => {
                let entries = table.into_entries().into_iter();
                self.sets.extend(entries.map(|set| (set, is_feed)));
            }
            _ => {
                let what = if is_feed { "[feeds]" } else { "[sets]" };
                let expected = "a table such as { office = [\"192.0.2.0/24\"] }";
                wrong_type(&entry.value, what, expected, &mut self.report);
            }
        }
    }

    fn rules(&mut self, node: Node) {
        let items = match node.value {
            Value::List(items) => items,
            Value::Table(_) => {
                self.report
                    .error(
                        node.span,
                        "wrong-type",
                        "the rules are one table, not a list of tables",
                    )
                    .expected("a list: [[rule]] with double brackets in TOML, [ { … } ] in JSON");
                return;
            }
            _ => {
                wrong_type(&node, "rule", "a list of tables", &mut self.report);
                return;
            }
        };
        for item in items {
            match include_of(&item) {
                Some(_) => {
                    if let Some(mut fields) =
                        Fields::of(&item, "an include between rules", &mut self.report)
                    {
                        let paths = fields.get("include");
                        fields.finish(&mut self.report);
                        if let Some(paths) = paths {
                            self.includes(paths);
                        }
                    }
                }
                None => self.written.rules.push(item),
            }
        }
    }

    /// A path, a list of paths, or tables with `path`.
    fn includes(&mut self, node: &Node) {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for item in items {
            match &item.value {
                Value::Text(text) => self.include(&text.text, item.span),
                Value::Table(_) => {
                    if let Some(mut fields) = Fields::of(item, "[[include]]", &mut self.report) {
                        if fields.get("path").is_none() && !fields.is_damaged() {
                            self.report
                                .error(item.span, "missing-key", "the include has no path")
                                .expected("path = \"rules.d\"");
                        }
                        let path = fields.text("path", &mut self.report);
                        let span = fields.value_span("path");
                        fields.finish(&mut self.report);
                        if let Some(path) = path {
                            self.include(path, span);
                        }
                    }
                }
                _ => wrong_type(
                    item,
                    "include",
                    "the path of a file or folder",
                    &mut self.report,
                ),
            }
        }
    }

    fn include(&mut self, written: &str, span: Span) {
        if written.is_empty() {
            self.report
                .error(span, "missing-file", "include names no file")
                .expected("the path of a file or folder");
            return;
        }
        let path = self.report.base(span.file).join(written);
        self.stamp(&path);
        if path.is_dir() {
            self.include_folder(&path, span);
        } else {
            self.include_file(&path, span);
        }
    }

    /// Every policy file in the folder, in the order of their names; others and hidden ones are left alone.
    fn include_folder(&mut self, path: &Path, span: Span) {
        self.folders.push(path.to_owned());
        let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>)
        {
            Ok(entries) => entries,
            Err(error) => {
                self.is_incomplete = true;
                Unreadable::Io(error).tell(path, span, &mut self.report);
                return;
            }
        };
        let mut files: Vec<PathBuf> = entries
            .iter()
            .map(std::fs::DirEntry::path)
            .filter(|path| {
                let hidden = path
                    .file_name()
                    .is_none_or(|name| name.to_string_lossy().starts_with('.'));
                !hidden && path.is_file() && Format::of_path(path).is_some()
            })
            .collect();
        files.sort();
        if files.is_empty() {
            let message = format!("the folder {} holds no policy files", path.display());
            self.report
                .warning(span, "empty-include", message)
                .expected("files ending in .toml, .json, .txt or .rules");
        }
        for file in files {
            self.include_file(&file, span);
        }
    }

    fn include_file(&mut self, path: &Path, span: Span) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(place) = self.open.iter().position(|open| *open == canonical) {
            let chain: Vec<String> = self.open[place..]
                .iter()
                .chain([&canonical])
                .map(|path| path.display().to_string())
                .collect();
            let message = format!("the file includes itself: {}", chain.join(" includes "));
            self.report.error(span, "include-cycle", message);
            return;
        }
        if self.seen.contains(&canonical) {
            let message = format!(
                "{} is included a second time",
                quoted(&path.display().to_string())
            );
            self.report.error(span, "include-twice", message);
            return;
        }
        if self.open.len() > DEEPEST_INCLUDE {
            let message = format!("includes are nested more than {DEEPEST_INCLUDE} deep");
            self.report.error(span, "include-depth", message);
            return;
        }
        self.files.push(path.to_owned());
        match self.read_policy(path) {
            Ok(text) => {
                let format = Format::of_path(path).unwrap_or_else(|| Format::sniff(&text));
                let base = path.parent().unwrap_or(Path::new("")).to_owned();
                self.enter(path);
                self.text(path.display().to_string(), base, text, format);
                self.open.pop();
            }
            Err(unreadable) => {
                self.is_incomplete = true;
                unreadable.tell(path, span, &mut self.report);
            }
        }
    }
}

/// The paths of a rule that is none: an include between two rules.
fn include_of(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Table(table) if table.get("action").is_none() => {
            table.get("include").map(|entry| &entry.value)
        }
        _ => None,
    }
}
