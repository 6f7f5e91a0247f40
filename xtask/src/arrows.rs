//! Which crate may use which, checked from what cargo says they use.
//!
//! The order is the packet's way: bytes, policy, decision, kernel, process, command. A crate that reached back would let I/O
//! into what is meant to be pure.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

/// Each crate of the workspace and what it may use of it, beside tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("policy", &[]),
    ("engine", &["wire", "policy"]),
    ("kernel", &["wire", "policy", "engine"]),
    ("daemon", &["wire", "policy", "engine", "kernel"]),
    ("cli", &["wire", "policy", "engine", "kernel", "daemon"]),
    ("lab", &[]),
];

/// What no crate may use in its library, because it holds test equipment or chores.
const TEST_ONLY: &[&str] = &["lab"];

/// Crates that do no I/O, and what would let them.
const PURE: &[&str] = &["wire", "policy", "engine"];
const IMPURE: &[&str] = &[
    "libc",
    "nix",
    "tokio",
    "rusqlite",
    "notify",
    "rand",
    "getrandom",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for what the crate itself uses; `dev` or `build` else.
    kind: Option<String>,
}

/// Asks cargo and compares.
pub(crate) fn check() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let wrong = violations(&metadata);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    println!("the arrows of {} crates hold", metadata.packages.len());
    Ok(())
}

fn violations(metadata: &Metadata) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        // Chores drive everything; they are no part of the product.
        let Some(name) = short(&package.name) else {
            continue;
        };
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!(
                "crates/{name} is new: say in xtask/src/arrows.rs and docs/architecture.md what it may use"
            ));
            continue;
        };
        for used in package
            .dependencies
            .iter()
            .filter(|used| used.kind.is_none())
        {
            match short(&used.name) {
                Some(used) if TEST_ONLY.contains(&used) => wrong.push(format!(
                    "crates/{name} uses crates/{used} beside tests: make it a dev-dependency"
                )),
                Some(used) if !may_use.contains(&used) => wrong.push(format!(
                    "crates/{name} uses crates/{used}; it may use only {may_use:?}"
                )),
                None if PURE.contains(&name) && IMPURE.contains(&used.name.as_str()) => {
                    wrong.push(format!(
                        "crates/{name} uses {}; it does no I/O, so pass in what it needs",
                        used.name
                    ));
                }
                _ => {}
            }
        }
    }
    wrong
}

/// The crate's folder for a package of this workspace.
fn short(package: &str) -> Option<&str> {
    package.strip_prefix("portcullis-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[(&str, Option<&str>)]) -> Metadata {
        let dependencies = uses
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).into(),
                kind: kind.map(Into::into),
            })
            .collect();
        Metadata {
            packages: vec![Package {
                name: name.into(),
                dependencies,
            }],
        }
    }

    #[test]
    fn an_arrow_is_allowed_forward_and_refused_back() {
        for (name, uses, wrong) in [
            ("portcullis-engine", ("portcullis-wire", None), 0),
            ("portcullis-wire", ("portcullis-engine", None), 1),
            ("portcullis-wire", ("portcullis-engine", Some("dev")), 0),
            ("portcullis-policy", ("libc", None), 1),
            ("portcullis-kernel", ("libc", None), 0),
            ("portcullis-daemon", ("portcullis-lab", None), 1),
            ("portcullis-daemon", ("portcullis-lab", Some("dev")), 0),
            ("portcullis-unheard", ("libc", None), 1),
            ("xtask", ("portcullis-lab", None), 0),
        ] {
            assert_eq!(
                violations(&package(name, &[uses])).len(),
                wrong,
                "{name} uses {uses:?}"
            );
        }
    }
}
