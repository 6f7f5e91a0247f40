//! Running `nft` and `iptables`, and making sense of what they say.

use std::io::Write as _;
use std::process::{Command, Stdio};

use policy::RuleId;

use crate::datapath::DatapathError;

/// Runs a program with a script on its standard input; gives what it wrote.
///
/// Times are spoken of in UTC, and messages in English, whatever the caller's environment.
pub(super) fn run(
    program: &'static str,
    args: &[&str],
    script: &str,
) -> Result<Result<String, String>, DatapathError> {
    let failed = |source| DatapathError::Program { program, source };
    let mut child = Command::new(program)
        .args(args)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let input = child.stdin.take();
    // Written beside the reading: a program that fails early and says much would block both sides otherwise.
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.map(|mut input| input.write_all(script.as_bytes())));
        let output = child.wait_with_output();
        // A program that failed has closed its input, and says why by itself.
        let _ = writer.join();
        output
    })
    .map_err(failed)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(if output.status.success() {
        Ok(text(output.stdout))
    } else {
        let words = text(output.stderr);
        Err(if words.trim().is_empty() {
            output.status.to_string()
        } else {
            words
        })
    })
}

/// Whether a program can be run here.
pub(super) fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Feeds a script to nft as one transaction.
pub(super) fn load(script: &str) -> Result<(), DatapathError> {
    run("nft", &["-f", "-"], script)?
        .map(drop)
        .map_err(|words| {
            let (rule, message) = explain(&words, script);
            DatapathError::Refused { rule, message }
        })
}

/// The first error of nft in one line, and the rule that it is about where that can be told.
fn explain(words: &str, script: &str) -> (Option<RuleId>, String) {
    let message = words
        .lines()
        .find(|line| line.contains("Error:"))
        .or_else(|| words.lines().next())
        .unwrap_or("nft said nothing");
    let number = message
        .split(':')
        .nth(1)
        .and_then(|number| number.parse::<usize>().ok())
        .filter(|&number| number > 0);
    let rule = number.and_then(|number| {
        let before = script.lines().take(number);
        let chain = before
            .clone()
            .filter(|line| line.trim_start().starts_with("chain "))
            .last();
        before
            .last()
            .and_then(named_rule)
            .or_else(|| chain.and_then(named_rule))
    });
    let text = message
        .split_once("Error:")
        .map_or(message, |(_, text)| text);
    let line = number
        .and_then(|number| script.lines().nth(number - 1))
        .map_or("", str::trim);
    let shown: String = line.chars().take(120).collect();
    let text = text.trim();
    (
        rule,
        if shown.is_empty() {
            text.to_owned()
        } else {
            format!("{text}, in: {shown}")
        },
    )
}

/// The rule whose chain or objects a line names.
fn named_rule(line: &str) -> Option<RuleId> {
    ["rule_", "limit_", "meter_", "over_", "within_"]
        .iter()
        .find_map(|begin| {
            let (before, after) = line.split_once(begin)?;
            if before.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                return None;
            }
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok().map(RuleId)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_brought_home_to_its_rule() {
        let script = "table inet portcullis {\n\tchain rule_7 {\n\t\taccept\n\t}\n\tchain rules_in {\n\t\ttcp dport 22 goto rule_12\n\t\tct nonsense\n\t}\n}\n";
        let say =
            |line: usize| format!("/dev/stdin:{line}:3-8: Error: syntax error\n\t\tct nonsense\n");
        for (line, rule) in [
            (3, Some(7)),
            (6, Some(12)),
            (7, None),
            (1, None),
            (99, None),
        ] {
            assert_eq!(
                explain(&say(line), script).0,
                rule.map(RuleId),
                "line {line}"
            );
        }
        assert_eq!(explain(&say(7), script).1, "syntax error, in: ct nonsense");
        assert_eq!(explain("", script), (None, "nft said nothing".to_owned()));
        assert_eq!(
            explain("internal:0:0-0: Error: Could not process rule", script).1,
            "Could not process rule"
        );
    }
}
