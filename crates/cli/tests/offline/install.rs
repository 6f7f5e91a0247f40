//! `make install` and `make uninstall`: what lies where, and whether the system's own tools take it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Called, binary, call, repository};

/// Calls the script as `make` does.
fn script(verb: &str, variables: &[(&str, &Path)]) -> Called {
    let mut command = Command::new(repository("packaging/install.sh"));
    command.arg(verb).env("PORTCULLIS", binary());
    for (name, value) in variables {
        command.env(name, value);
    }
    call(command, b"")
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_installation_has_a_program_a_manual_completions_and_a_service_and_goes_again() {
    let folder = tempfile::tempdir().unwrap();
    let variables: [(&str, &Path); 2] = [("DESTDIR", folder.path()), ("PREFIX", Path::new("/usr"))];
    let told = script("install", &variables).expect(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("", ""));
    let installed = files(folder.path());
    for (path, mode) in [
        ("usr/bin/portcullis", 0o755),
        ("usr/share/man/man8/portcullis.8", 0o644),
        ("usr/share/bash-completion/completions/portcullis", 0o644),
        ("usr/share/zsh/site-functions/_portcullis", 0o644),
        ("usr/share/fish/vendor_completions.d/portcullis.fish", 0o644),
        ("usr/lib/systemd/system/portcullis.service", 0o644),
        ("usr/share/doc/portcullis/docs/policy.md", 0o644),
        (
            "usr/share/doc/portcullis/docs/decisions/0001-exit-codes-of-check-and-test.md",
            0o644,
        ),
        ("usr/share/doc/portcullis/examples/server.toml", 0o644),
    ] {
        assert!(
            installed.iter().any(|have| have == path),
            "{path}: {installed:?}"
        );
        let metadata = folder.path().join(path).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
    }
    assert!(folder.path().join("etc/portcullis").is_dir());
    let mut version = Command::new(folder.path().join("usr/bin/portcullis"));
    version.arg("--version");
    call(version, b"").expect(0);
    let unit = folder
        .path()
        .join("usr/lib/systemd/system/portcullis.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    for line in [
        "ExecStart=/usr/bin/portcullis run",
        // Without it systemd ends what brings the old policy back.
        "KillMode=process",
        "Type=notify",
    ] {
        assert!(unit.lines().any(|have| have == line), "{line}: {unit}");
    }

    // Over what is there already, and the user's policy stays.
    let policy = folder.path().join("etc/portcullis/policy.toml");
    std::fs::write(&policy, "mode = \"observe\"\n").unwrap();
    script("install", &variables).expect(0);
    script("uninstall", &variables).expect(0);
    assert_eq!(files(folder.path()), ["etc/portcullis/policy.toml"]);
}

#[test]
fn systemd_takes_the_unit_and_man_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let (prefix, etc) = (folder.path().join("usr"), folder.path().join("etc"));
    script("install", &[("PREFIX", &prefix), ("SYSCONFDIR", &etc)]).expect(0);
    let verdicts = [
        (
            "systemd-analyze",
            vec![
                "verify",
                "--man=no",
                "lib/systemd/system/portcullis.service",
            ],
        ),
        (
            "man",
            vec![
                "--warnings",
                "-E",
                "UTF-8",
                "-l",
                "-Tutf8",
                "-Z",
                "share/man/man8/portcullis.8",
            ],
        ),
    ];
    for (program, arguments) in verdicts {
        let is_there = Command::new(program).arg("--version").output().is_ok();
        if !is_there {
            eprintln!("SKIPPED: {program} is not installed");
            continue;
        }
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&prefix);
        let told = call(command, b"").expect(0);
        // What systemd says of other units of this machine is not about ours.
        let ours: Vec<&str> = told
            .stderr
            .lines()
            .filter(|line| line.contains("portcullis"))
            .collect();
        assert_eq!(ours, [""; 0], "{program}");
    }
}

#[test]
fn nothing_is_installed_that_is_not_built() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(repository("packaging/install.sh"));
    command
        .arg("install")
        .env("DESTDIR", folder.path())
        .env("PORTCULLIS", folder.path().join("none"));
    call(command, b"")
        .expect(1)
        .one_sentence("run `make` first");
    assert_eq!(files(folder.path()), [""; 0]);
}
