//! A policy that could come into force: where it comes from, its text, its plan, and what a person should know of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use policy::{
    Detect, Diagnostic, Entries, Keeper, Kept, ListKind, Loaded, LoadedList, Mode, Plan, Stamp,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::api::{Finding, Format, Severity};
use crate::last_good::{self, Claim, LastGood};

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Nobody wrote one: inbound denied, outbound allowed, every detector on, nothing enforced.
    BuiltIn,
    /// A file; it is watched.
    File(PathBuf),
    /// A file's text as it was when it was in force: the file says something else now that may not be used.
    Kept {
        /// The file.
        path: PathBuf,
        /// How it is written.
        format: Format,
        /// The text.
        text: String,
    },
    /// A text that came with a request. Relative paths in it begin at the root.
    Text {
        /// How it is written.
        format: Format,
        /// The text.
        text: String,
    },
}

impl Source {
    /// The file as the user named it, `<text>` or `<built in>`.
    pub fn name(&self) -> String {
        match self {
            Self::BuiltIn => "<built in>".to_owned(),
            Self::File(path) | Self::Kept { path, .. } => path.display().to_string(),
            Self::Text { .. } => "<text>".to_owned(),
        }
    }

    /// What it says now, without includes; `None` where that cannot be read.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::BuiltIn => Some(Candidate::built_in().text),
            Self::File(path) => std::fs::read_to_string(path).ok(),
            Self::Kept { text, .. } | Self::Text { text, .. } => Some(text.clone()),
        }
    }

    /// What is to be read when it is read again.
    #[must_use]
    pub fn again(self) -> Self {
        match self {
            Self::Kept { path, .. } => Self::File(path),
            source => source,
        }
    }
}

/// What files and folders were just before they were read; `None` for those that were not there.
pub type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// A policy without errors.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it comes from.
    pub source: Source,
    /// How it is written.
    pub format: Format,
    /// Its text, without includes and lists.
    pub text: String,
    /// The first 16 hexadecimal digits of the SHA-1 of all that it was made from.
    pub digest: String,
    /// The same of its texts alone, without what its lists hold.
    pub texts: String,
    /// What is executed, as the policy says it.
    pub plan: Arc<Plan>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Every folder that was included or is a list.
    pub folders: Vec<PathBuf>,
    /// What these were when they were read.
    pub stamps: Stamps,
    /// Its list files, and how good they are.
    pub lists: Vec<LoadedList>,
    /// Warnings, one sentence each, with the place and the code and without the word itself.
    pub warnings: Vec<String>,
    /// What its lists held is kept as long as it may be needed.
    #[expect(dead_code, reason = "it is held, not asked")]
    claim: Arc<Claim>,
}

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", summary(findings))]
pub struct Invalid {
    /// Everything that is wrong with it.
    pub findings: Vec<Finding>,
    /// The files that it was read from: a change to one of them is a reason to try again.
    pub files: Vec<PathBuf>,
    /// The folders.
    pub folders: Vec<PathBuf>,
    /// What these were when they were read.
    pub stamps: Stamps,
}

fn summary(findings: &[Finding]) -> String {
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    match findings
        .iter()
        .find(|finding| finding.severity == Severity::Error)
    {
        Some(first) => format!(
            "the policy has {errors} error{} and is not used; the first: {}:{}:{}: {}",
            if errors == 1 { "" } else { "s" },
            first.file,
            first.line,
            first.column,
            first.message
        ),
        None => "the policy cannot be used; `portcullis check` tells why".to_owned(),
    }
}

/// Hashes the names of `[dns]`: senders cannot know it, and a policy that did not change gives the same plan.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

impl Candidate {
    /// [`Candidate::load_with`], with nothing kept.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load(source: &Source, now: Timestamp) -> Result<Self, Invalid> {
        Self::load_with(source, now, &LastGood::none())
    }

    /// Reads a policy, each file of it once: what is validated is what comes into force. A list that gives nothing is what it was
    /// when it was good last. Slow for large lists: never on a thread that packets wait for.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load_with(
        source: &Source,
        now: Timestamp,
        last_good: &LastGood,
    ) -> Result<Self, Invalid> {
        let mut keeping = Keeping {
            last_good,
            claim: last_good.claim(),
            digests: Vec::new(),
        };
        let loaded = match source {
            Source::BuiltIn => return Ok(Self::built_in()),
            Source::File(path) => policy::load_path_with(path, &mut keeping, *SEED),
            Source::Kept { path, format, text } => {
                let base = path.parent().unwrap_or(Path::new("/"));
                let format = written(*format);
                policy::load_text_with(&source.name(), text, format, base, &mut keeping, *SEED)
            }
            Source::Text { format, text } => {
                let (format, base) = (written(*format), Path::new("/"));
                policy::load_text_with("<text>", text, format, base, &mut keeping, *SEED)
            }
        };
        let Loaded {
            policy,
            diagnostics,
            files,
            folders,
            stamps,
            mut texts,
            format,
            lists,
        } = loaded;
        let Some(policy) = policy else {
            return Err(Invalid {
                findings: diagnostics.iter().map(finding).collect(),
                files,
                folders,
                stamps,
            });
        };
        let plan = policy.into_plan();
        // A policy with an error is none: all of these are warnings, and whoever shows them says so.
        let linted = policy::lint(&plan, now);
        let found = diagnostics.iter().chain(&linted);
        let warnings = found.map(|finding| format!("{finding:#}")).collect();
        let (digest, words) = (digest(&texts, &keeping.digests), digest(&texts, &[]));
        Ok(Self {
            source: source.clone(),
            format: format_name(format),
            // A policy without errors has at least its own text.
            text: texts.drain(..).next().unwrap_or_default().1,
            digest,
            texts: words,
            plan: Arc::new(plan),
            files,
            folders,
            stamps,
            lists,
            warnings,
            claim: keeping.claim,
        })
    }

    /// What a firewall without a policy runs with: it watches and says what it would do, and blocks nothing.
    pub fn built_in() -> Self {
        let plan = Plan {
            mode: Mode::Observe,
            essentials: true,
            // As in a policy that says nothing about them: whoever looks for the first time sees what is told of attackers.
            detect: Detect::standard(),
            ..Plan::default()
        };
        let text = "# built in: inbound denied, outbound allowed, every detector on, nothing enforced\nmode = \"observe\"\n";
        let digest = digest(&[(String::new(), text.to_owned())], &[]);
        Self {
            source: Source::BuiltIn,
            format: Format::Toml,
            text: text.to_owned(),
            texts: digest.clone(),
            digest,
            plan: Arc::new(plan),
            files: Vec::new(),
            folders: Vec::new(),
            stamps: Stamps::new(),
            lists: Vec::new(),
            warnings: Vec::new(),
            claim: Arc::default(),
        }
    }
}

fn written(format: Format) -> policy::Format {
    match format {
        Format::Toml => policy::Format::Toml,
        Format::Json => policy::Format::Json,
        Format::Rules => policy::Format::RulesTxt,
    }
}

fn format_name(format: policy::Format) -> Format {
    match format {
        policy::Format::Toml => Format::Toml,
        policy::Format::Json => Format::Json,
        policy::Format::RulesTxt => Format::Rules,
    }
}

/// A diagnostic as the API has it.
pub fn finding(diagnostic: &Diagnostic) -> Finding {
    Finding {
        severity: match diagnostic.severity {
            policy::Severity::Error => Severity::Error,
            policy::Severity::Warning => Severity::Warning,
        },
        code: diagnostic.code.to_owned(),
        message: match &diagnostic.expected {
            Some(expected) => format!("{}; expected {expected}", diagnostic.message),
            None => diagnostic.message.clone(),
        },
        file: diagnostic.position.file.clone(),
        line: diagnostic.position.line,
        column: diagnostic.position.column,
        suggestion: diagnostic.suggestion.clone(),
        witness: diagnostic.witness.as_ref().map(ToString::to_string),
    }
}

/// What is kept of lists, and the digest of what each of them is taken to hold.
struct Keeping<'a> {
    last_good: &'a LastGood,
    claim: Arc<Claim>,
    digests: Vec<(PathBuf, String)>,
}

impl Keeper for Keeping<'_> {
    fn keep(&mut self, path: &Path, kind: ListKind, entries: &Entries) {
        let digest = last_good::digest(entries);
        self.last_good
            .keep(&self.claim, path, kind, entries, &digest);
        self.digests.push((path.to_owned(), digest));
    }

    fn recall(&mut self, path: &Path, kind: ListKind) -> Vec<Kept> {
        let kept = self.last_good.recall(&self.claim, path, kind);
        let digests = kept
            .iter()
            .map(|kept| (kept.path.clone(), last_good::digest(&kept.entries)));
        self.digests.extend(digests);
        kept
    }
}

/// The texts of the policy and its includes, and what each list holds: of a list that is stale what it held, so that it is the same
/// policy as before.
fn digest(texts: &[(String, String)], lists: &[(PathBuf, String)]) -> String {
    let mut hash = Sha1::new();
    for (at, (name, text)) in texts.iter().enumerate() {
        // The policy is the same under another name.
        if at > 0 {
            hash.update(name);
        }
        hash.update(text);
    }
    for (path, digest) in lists {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(digest);
    }
    last_good::hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_digest_sees_lists_and_errors_come_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let list = folder.path().join("bad.netset");
        std::fs::write(&list, "198.51.100.0/24\n").unwrap();
        std::fs::write(&path, "[sets]\nbad = { file = \"bad.netset\" }\n\n[[rule]]\naction = \"deny\"\nfrom = [\"@bad\"]\n").unwrap();
        let source = Source::File(path.clone());
        let load = || Candidate::load(&source, Timestamp::default());
        let first = load().unwrap();
        assert_eq!(first.plan.rules.len(), 1);
        assert!(first.files.contains(&list));
        assert_eq!(load().unwrap().digest, first.digest);
        std::fs::write(&list, "# the same\n198.51.100.0/25\n198.51.100.128/25\n").unwrap();
        assert_eq!(load().unwrap().digest, first.digest, "the addresses count");
        std::fs::write(&list, "203.0.113.0/24\n").unwrap();
        let other = load().unwrap();
        assert_ne!(other.digest, first.digest);
        assert_eq!(other.texts, first.texts, "the addresses do not count");
        std::fs::write(&path, "[[rule]]\naction = \"deni\"\n").unwrap();
        let invalid = load().unwrap_err();
        assert_eq!((invalid.findings[0].line, invalid.files.len()), (2, 1));
        assert!(invalid.to_string().contains("policy.toml:2:"), "{invalid}");
    }

    #[test]
    fn a_warning_has_its_place_and_its_code_and_not_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(folder.path().join("none.netset"), "").unwrap();
        std::fs::write(&path, "[sets]\nbad = { file = \"none.netset\" }\n\n[[rule]]\naction = \"deny\"\nfrom = [\"@bad\"]\n").unwrap();
        let candidate = Candidate::load(&Source::File(path), Timestamp::default()).unwrap();
        let found = &candidate.warnings[0];
        let says = "none.netset:1:1: [empty-list] the list is empty";
        assert!(found.ends_with(says), "{found}");
    }

    #[test]
    fn the_built_in_policy_denies_inbound_and_enforces_nothing() {
        let plan = Candidate::built_in().plan;
        assert_eq!(plan.mode, Mode::Observe);
        assert_eq!(plan.default, policy::Defaults::default());
        assert!(plan.essentials && plan.rules.is_empty());
    }
}
