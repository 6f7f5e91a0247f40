//! One thing that is wrong with a policy, as a line: `policy.toml:3:5: error[unknown-key]: …`.

use daemon::api::{Finding, Severity};

use crate::screen::visible;

/// The line without colours.
pub(crate) fn line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut line = format!(
        "{}:{}:{}: {severity}[{}]: {}",
        finding.file, finding.line, finding.column, finding.code, finding.message
    );
    if let Some(witness) = &finding.witness {
        line.push_str("; for example ");
        line.push_str(witness);
    }
    if let Some(suggestion) = &finding.suggestion {
        line.push_str(&format!("; did you mean \"{suggestion}\"?"));
    }
    visible(&line)
}
