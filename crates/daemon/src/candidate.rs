//! A policy that could come into force: where it comes from, its text, its plan, and what a person should know of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::{Diagnostic, Loaded, Mode, Plan, Timestamp};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::api::{Finding, Format, Severity};

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Nobody wrote one: inbound denied, outbound allowed, nothing enforced.
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

    /// What is to be read when it is read again.
    #[must_use]
    pub fn again(self) -> Self {
        match self {
            Self::Kept { path, .. } => Self::File(path),
            source => source,
        }
    }
}

/// A policy without errors.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it comes from.
    pub source: Source,
    /// How it is written.
    pub format: Format,
    /// Its text, without includes and lists.
    pub text: String,
    /// The first 16 hexadecimal digits of the SHA-1 of all that was read.
    pub digest: String,
    /// What is executed, as the policy says it.
    pub plan: Arc<Plan>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Every folder that was included.
    pub folders: Vec<PathBuf>,
    /// Warnings, one sentence each.
    pub warnings: Vec<String>,
}

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", summary(findings))]
pub struct Invalid {
    /// Everything that is wrong with it.
    pub findings: Vec<Finding>,
    /// The files that it was read from: a change to one of them is a reason to try again.
    pub files: Vec<PathBuf>,
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

impl Candidate {
    /// Reads a policy. Slow for large lists: never on a thread that packets wait for.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load(source: &Source, now: Timestamp) -> Result<Self, Invalid> {
        let (loaded, text, format) = match source {
            Source::BuiltIn => return Ok(Self::built_in()),
            Source::File(path) => {
                let loaded = policy::load_path(path);
                // What cannot be read is told by the loader already.
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let format =
                    policy::Format::of_path(path).unwrap_or_else(|| policy::Format::sniff(&text));
                (loaded, text, format_name(format))
            }
            Source::Kept { path, format, text } => {
                let base = path.parent().unwrap_or(Path::new("/"));
                let loaded = policy::load_text(&source.name(), text, written(*format), base);
                (loaded, text.clone(), *format)
            }
            Source::Text { format, text } => {
                let loaded = policy::load_text("<text>", text, written(*format), Path::new("/"));
                (loaded, text.clone(), *format)
            }
        };
        let Loaded {
            policy,
            diagnostics,
            files,
            folders,
        } = loaded;
        let Some(policy) = policy else {
            return Err(Invalid {
                findings: diagnostics.iter().map(finding).collect(),
                files,
            });
        };
        let mut warnings: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        let plan = policy.into_plan();
        warnings.extend(policy::lint(&plan, now).iter().map(ToString::to_string));
        Ok(Self {
            source: source.clone(),
            digest: digest(&text, source, &files),
            format,
            text,
            plan: Arc::new(plan),
            files,
            folders,
            warnings,
        })
    }

    /// What a firewall without a policy runs with: it watches and says what it would do, and blocks nothing.
    pub fn built_in() -> Self {
        let plan = Plan {
            mode: Mode::Observe,
            essentials: true,
            ..Plan::default()
        };
        let text =
            "# built in: inbound denied, outbound allowed, nothing enforced\nmode = \"observe\"\n";
        Self {
            source: Source::BuiltIn,
            format: Format::Toml,
            text: text.to_owned(),
            digest: digest(text, &Source::BuiltIn, &[]),
            plan: Arc::new(plan),
            files: Vec::new(),
            folders: Vec::new(),
            warnings: Vec::new(),
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

/// The text, and every list and include beside it.
fn digest(text: &str, source: &Source, files: &[PathBuf]) -> String {
    let mut hash = Sha1::new();
    hash.update(text.as_bytes());
    let others = files
        .iter()
        .filter(|path| !matches!(source, Source::File(main) if main == *path));
    for path in others {
        hash.update(path.as_os_str().as_encoded_bytes());
        // A file that vanished since it was read changes the digest, which is what a digest is for.
        hash.update(std::fs::read(path).unwrap_or_default());
    }
    let full = hash.finalize();
    full.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
        std::fs::write(&list, "203.0.113.0/24\n").unwrap();
        assert_ne!(load().unwrap().digest, first.digest);
        std::fs::write(&path, "[[rule]]\naction = \"deni\"\n").unwrap();
        let invalid = load().unwrap_err();
        assert_eq!((invalid.findings[0].line, invalid.files.len()), (2, 1));
        assert!(invalid.to_string().contains("policy.toml:2:"), "{invalid}");
    }

    #[test]
    fn the_built_in_policy_denies_inbound_and_enforces_nothing() {
        let plan = Candidate::built_in().plan;
        assert_eq!(plan.mode, Mode::Observe);
        assert_eq!(plan.default, policy::Defaults::default());
        assert!(plan.essentials && plan.rules.is_empty());
    }
}
