//! What becomes of questions for a name: the answer to `dns test`, with a daemon and without one.

use policy::Plan;
use policy::names::{Match, NameVerdict, Pattern, Reach};

use crate::api::DnsTestResult;

/// Why a name cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no name to ask for: {why}; write one such as ads.example")]
pub struct BadName {
    /// As it was written.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Judges a name by a plan.
///
/// # Errors
///
/// It is none.
pub fn judge(plan: &Plan, name: &str) -> Result<DnsTestResult, BadName> {
    let bad = |why: String| BadName {
        name: name.to_owned(),
        why,
    };
    let asked = Pattern::parse(name).map_err(|why| bad(format!("it {why}")))?;
    if asked.reach() != Reach::Itself {
        return Err(bad("it stands for many".to_owned()));
    }
    let asked = asked.name();
    let Some(filter) = &plan.dns else {
        let text = format!("{asked} is resolved: the policy has no [dns]");
        return Ok(result(asked, "dns-off", None, text));
    };
    let by = |entry: &Match<'_>| format!("by {entry} of {}", entry.source);
    Ok(match filter.names.judge(asked.as_bytes()) {
        NameVerdict::NotListed => {
            let text = format!("{asked} is resolved: it is in no list");
            result(asked, "dns-not-listed", None, text)
        }
        NameVerdict::Allowed(entry) => {
            let text = format!("{asked} is resolved: it is allowed {}", by(&entry));
            result(asked, "dns-allowed", Some(&entry), text)
        }
        NameVerdict::Blocked(entry) => {
            let answer = filter.answer.name();
            let text = format!("{asked} is blocked {}; the answer is {answer}", by(&entry));
            DnsTestResult {
                verdict: "drop".to_owned(),
                answer: Some(answer.to_owned()),
                ..result(asked, "dns-blocked", Some(&entry), text)
            }
        }
    })
}

/// Of a name that is resolved.
fn result(name: &str, reason: &str, entry: Option<&Match<'_>>, text: String) -> DnsTestResult {
    DnsTestResult {
        name: name.to_owned(),
        verdict: "allow".to_owned(),
        reason: reason.to_owned(),
        entry: entry.map(ToString::to_string),
        source: entry.map(|entry| entry.source.to_string()),
        answer: None,
        mode: None,
        text,
    }
}
