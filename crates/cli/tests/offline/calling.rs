//! Help, usage, completions, the manual, pipes and colours.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::common::{command, line, nobody, portcullis};

/// Every verb of features.md, with what makes a call of it that needs nothing but a daemon.
const DAEMON_VERBS: &[&str] = &[
    "status",
    "rules",
    "sets",
    "sets office",
    "flows",
    "events",
    "events --follow",
    "stats",
    "bans",
    "bans export",
    "why 203.0.113.7",
    "ban 203.0.113.7",
    "unban 203.0.113.7",
    "unban --all",
    "allow 203.0.113.7",
    "allow",
    "apply",
    "confirm",
    "rollback",
    "reload",
];

#[test]
fn every_verb_has_help() {
    let help = line("--help").expect(0).stdout;
    for verb in [
        "run",
        "replay",
        "check",
        "compile",
        "test",
        "why",
        "apply",
        "confirm",
        "rollback",
        "reload",
        "status",
        "rules",
        "sets",
        "flows",
        "events",
        "stats",
        "ban",
        "unban",
        "bans",
        "allow",
        "flush",
        "completions",
        "man",
    ] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(verb)),
            "{verb} is not in --help"
        );
        let own = portcullis([verb, "--help"]).expect(0);
        assert!(
            own.stdout.contains("Usage: portcullis"),
            "{verb}: {}",
            own.stdout
        );
        assert_eq!(own.stderr, "", "{verb}");
    }
    for hidden in ["__revert", "top", "web"] {
        assert!(
            !help
                .lines()
                .any(|line| line.trim_start().starts_with(hidden)),
            "{hidden} is in --help"
        );
    }
}

#[test]
fn version_is_one_line() {
    let version = line("--version").expect(0).stdout;
    assert_eq!(
        version,
        format!("portcullis {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_calls_are_usage() {
    for words in [
        "",
        "nonsense",
        "ban",
        "ban not-an-address",
        "ban 203.0.113.7 --for soon",
        "unban",
        "unban 203.0.113.7 --all",
        "apply --confirm later",
        "run --observe --enforce",
        "test",
        "test in tcp",
        "test in tcp 1.2.3.4:1 to nowhere:2",
        "events --limit many",
        "completions klingon",
    ] {
        let called = line(words).expect(2);
        assert!(
            !called.stderr.contains("panicked"),
            "{words}: {}",
            called.stderr
        );
    }
}

#[test]
fn wrong_calls_are_told_the_mend() {
    for (words, mend) in [
        ("--socket /nowhere", "`portcullis --help` lists them"),
        (
            "events --limit many",
            "write a whole number from 0 to 4294967295",
        ),
        ("flows -n 1x", "write a whole number"),
        (
            "test sideways tcp 1.2.3.4:1 to 5.6.7.8:2",
            "in, out or forward",
        ),
        (
            "check /nonexistent/policy.toml",
            "expected the path of a policy",
        ),
    ] {
        let called = line(words);
        let told = format!("{}{}", called.stdout, called.stderr);
        assert!(told.contains(mend), "{words}: {told}");
        assert!(!told.contains("__revert"), "{words}: {told}");
    }
}

#[test]
fn nobody_answers_is_not_running() {
    let socket = nobody();
    for words in DAEMON_VERBS {
        for call in [
            format!("--socket {socket} {words}"),
            format!("{words} --socket {socket}"),
        ] {
            let called = line(&call).expect(4).one_sentence("portcullis run");
            assert_eq!(called.stdout, "", "{call}");
            assert!(called.stderr.contains(&socket), "{}", called.stderr);
        }
        let mut command = command();
        command
            .args(words.split(' '))
            .env("PORTCULLIS_SOCKET", &socket);
        crate::common::call(command, b"").expect(4);
    }
}

#[test]
fn verbs_of_later_versions_say_so() {
    for words in ["top", "web --listen 127.0.0.1:8117", "watch restart D2GS"] {
        line(words).expect(1).one_sentence("this version has no");
    }
}

#[test]
fn completions_know_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = portcullis(["completions", shell]).expect(0).stdout;
        assert!(
            script.contains("replay") && script.contains("portcullis"),
            "{shell}"
        );
        assert!(script.contains("socket") && script.contains("until-restart"));
        assert!(
            !script.contains("__revert"),
            "{shell} offers what is hidden"
        );
    }
}

#[test]
fn the_manual_is_roff_and_names_every_verb() {
    let page = line("man").expect(0).stdout;
    assert!(page.contains(".TH"), "{page}");
    for verb in ["RUN", "REPLAY", "CHECK", "APPLY", "BANS", "EXIT STATUS"] {
        assert!(
            page.contains(&format!(".SH {verb}")) || page.contains(&format!(".SH \"{verb}\"")),
            "{verb}"
        );
    }
    assert!(!page.contains("__revert"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = command()
        .arg("man")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    {
        let mut stdout = BufReader::with_capacity(16, child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
    }
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn no_colours_into_a_pipe() {
    for words in ["--help", "nonsense", "man"] {
        let called = line(words);
        assert!(
            !called.stdout.contains('\x1b') && !called.stderr.contains('\x1b'),
            "{words}"
        );
    }
}
