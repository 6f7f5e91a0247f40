//! One rule.

use std::time::Duration;

use crate::diagnostic::quoted;
use crate::fields::{Fields, text, word, wrong_type};
use crate::plan::{Action, AddressMatch, Rule, RuleId};
use crate::protocol::{ICMP, ICMPV6, Protocols};
use crate::time::Timestamp;
use crate::tree::{Node, Value};

use super::{MaybeRule, Reader, Reported, describe, payload, rate};

/// Longest name of a rule, in bytes (the kernel keeps comments of up to 128).
pub(super) const LONGEST_NAME: usize = 128;

/// Shortest and longest ban that a policy can ask for.
pub(super) const BAN: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Allow,
    Deny,
    Reject,
    Limit,
    Ban,
}

const ACTIONS: &[(&str, Verb)] = &[
    ("allow", Verb::Allow),
    ("deny", Verb::Deny),
    ("reject", Verb::Reject),
    ("limit", Verb::Limit),
    ("ban", Verb::Ban),
];

impl Reader<'_> {
    /// Reads a rule; nothing when it is off, or wrong in a way that is reported.
    pub(super) fn rule(&mut self, node: &Node) -> MaybeRule {
        let mut fields = Fields::of(node, "a rule", self.report)?;
        let before = self.report.error_count();

        let name = self.name(fields.get("name"));
        fields.text("comment", self.report);
        let verb = match fields.get("action") {
            Some(action) => word(action, "action", ACTIONS, self.report),
            None => {
                if !fields.is_damaged() {
                    self.report
                        .error(node.span, "missing-key", "the rule has no action")
                        .expected("action = \"allow\", \"deny\", \"reject\", \"limit\" or \"ban\"");
                }
                None
            }
        };
        // Every part is read before any of them is given up, so that all their mistakes are told at once.
        let directions = self.directions(fields.get("direction"));
        let protocols = self.protocols(fields.get("protocol"));
        let from = self.addresses(fields.get("from"), "from");
        let to = self.addresses(fields.get("to"), "to");
        let (port_node, source_port_node) = (fields.get("port"), fields.get("source_port"));
        let port = self.ports(port_node, "port");
        let source_port = self.ports(source_port_node, "source_port");
        let interface = self.interface(fields.get("interface"));
        let log = fields.flag("log", self.report).unwrap_or(false);
        let content = fields
            .get("payload")
            .map(|node| payload::read(node, self.report))
            .transpose();
        let protocol_span = fields.value_span("protocol");
        let hosts = self.hosts(&mut fields);
        let rate_node = fields.get("rate");
        let rate = rate_node
            .map(|node| rate::read(node, self.report))
            .transpose();
        let expires = self.expires(fields.get("expires"));
        let ban_for = fields.duration("for", BAN, self.report);
        let is_enabled = fields.flag("enabled", self.report).unwrap_or(true);
        self.goes_with(verb, &mut fields, node);
        fields.finish(self.report);
        let protocols = protocols.and_then(|protocols| match &hosts {
            Ok(Some(content)) => self.over_tcp(protocols, content, protocol_span),
            Ok(None) | Err(Reported) => Ok(protocols),
        });
        if let Ok(protocols) = protocols {
            let ports = [
                (port_node, &port, "port"),
                (source_port_node, &source_port, "source_port"),
            ];
            for (node, ports, key) in ports {
                if let (Some(node), Ok(ports)) = (node, ports)
                    && !self.ports_fit(protocols, node, ports, key)
                {
                    break;
                }
            }
        }
        if let (Ok(from), Ok(to)) = (&from, &to) {
            self.families_meet(protocols.as_ref().ok().copied(), from, to, &fields);
        }

        let action = match verb? {
            Verb::Allow => Action::Allow,
            Verb::Deny => Action::Deny,
            Verb::Reject => Action::Reject,
            Verb::Limit => Action::Limit,
            Verb::Ban => Action::Ban(ban_for.unwrap_or(self.ban_for)),
        };
        let mut rule = Rule {
            id: RuleId(0),
            name: name.ok()?.unwrap_or_default(),
            action,
            directions: directions.ok()?,
            protocols: protocols.ok()?,
            from: from.ok()?,
            to: to.ok()?,
            source_port: source_port.ok()?,
            port: port.ok()?,
            interface: interface.ok()?,
            log,
            content: content.ok()?.or(hosts.ok()?),
            rate: rate.ok()?,
            expires: expires.ok()?,
            position: self.report.position(node.span),
        };
        if self.report.error_count() > before || !is_enabled {
            return None;
        }
        if rule.name.is_empty() {
            rule.name = describe::rule(&rule, &self.sets.named);
        }
        Some(rule)
    }

    fn name(&mut self, node: Option<&Node>) -> Result<Option<String>, Reported> {
        let Some(node) = node else {
            return Ok(None);
        };
        let name = text(node, "name", self.report).ok_or(Reported)?;
        if name.len() > LONGEST_NAME {
            let message = format!("the name of the rule has {} bytes", name.len());
            self.report
                .error(node.span, "name-too-long", message)
                .expected(format!("at most {LONGEST_NAME} bytes"));
            return Err(Reported);
        }
        if name.trim().is_empty() || name.contains(char::is_control) {
            self.report
                .error(
                    node.span,
                    "bad-name",
                    format!("a rule cannot be called {}", quoted(name)),
                )
                .expected("text without control characters, or no name at all");
            return Err(Reported);
        }
        let position = self.report.position(node.span);
        match self.names.get(name) {
            Some(first) => {
                let message = format!("a rule at {first} is called {} already", quoted(name));
                self.report
                    .warning(node.span, "duplicate-rule-name", message)
                    .expected("a name of its own, as events name the rule that decided");
            }
            None => {
                self.names.insert(name.to_owned(), position);
            }
        }
        Ok(Some(name.to_owned()))
    }

    fn expires(&mut self, node: Option<&Node>) -> Result<Option<Timestamp>, Reported> {
        let Some(node) = node else {
            return Ok(None);
        };
        let expected = "a moment as in RFC 3339, such as \"2027-01-01T00:00:00Z\"";
        let written = match &node.value {
            Value::Text(text) => &text.text,
            Value::Moment(moment) => moment,
            _ => {
                wrong_type(node, "expires", expected, self.report);
                return Err(Reported);
            }
        };
        if let Some(moment) = Timestamp::parse_rfc3339(written) {
            return Ok(Some(moment));
        }
        let guess = [
            format!("{written}Z"),
            format!("{written}T00:00:00Z"),
            format!("{written}:00Z"),
        ];
        let guess = guess
            .into_iter()
            .find(|text| Timestamp::parse_rfc3339(text).is_some());
        self.report
            .error(
                node.span,
                "bad-timestamp",
                format!("expires cannot be {}", quoted(written)),
            )
            .expected(expected)
            .suggest(guess);
        Err(Reported)
    }

    /// What only fits some actions.
    fn goes_with(&mut self, verb: Option<Verb>, fields: &mut Fields<'_>, node: &Node) {
        let Some(verb) = verb else {
            return;
        };
        let has_rate = fields.get("rate").is_some();
        if verb == Verb::Limit && !has_rate && !fields.is_damaged() {
            self.report
                .error(
                    node.span,
                    "limit-without-rate",
                    "the rule limits, and does not say to what",
                )
                .expected("rate = { connections = 20, per = \"1s\" }");
        }
        if verb != Verb::Limit && has_rate {
            let span = fields.key_span("rate");
            self.report
                .error(
                    span,
                    "rate-without-limit",
                    "only a rule with action limit has a rate",
                )
                .expected("action = \"limit\", or no rate");
        }
        if verb != Verb::Ban && fields.get("for").is_some() {
            let span = fields.key_span("for");
            self.report
                .error(
                    span,
                    "for-without-ban",
                    "only a rule with action ban has a for",
                )
                .expected("action = \"ban\", or expires for a rule that ends");
        }
    }

    /// A packet is of one family: conditions that name only one each, and not the same, can never both hold.
    fn families_meet(
        &mut self,
        protocols: Option<Protocols>,
        from_match: &AddressMatch,
        to_match: &AddressMatch,
        fields: &Fields<'_>,
    ) {
        let (from, to) = (self.families(from_match), self.families(to_match));
        let name = |(v4, _): (bool, bool)| if v4 { "IPv4" } else { "IPv6" };
        let is_empty = |(v4, v6): (bool, bool)| !v4 && !v6;
        if is_empty(from) || is_empty(to) {
            return;
        }
        let both = (from.0 && to.0, from.1 && to.1);
        if is_empty(both) {
            let message = format!(
                "from names only {} addresses and to only {} ones, so that no packet could match",
                name(from),
                name(to)
            );
            let span = fields.value_span("to");
            self.report
                .error(span, "family-mismatch", message)
                .expected("addresses of one family on both sides");
            return;
        }
        let key = match from_match {
            AddressMatch::Of { .. } => "from",
            AddressMatch::Any => "to",
        };
        for (protocol, wrong, right) in [(ICMP, !both.0, ICMPV6), (ICMPV6, !both.1, ICMP)] {
            if wrong && protocols == Some(Protocols::one(protocol)) {
                let (protocol, right) = (Protocols::one(protocol), Protocols::one(right));
                let message = format!(
                    "{protocol} is the protocol of the other family than the addresses in {key}"
                );
                let span = fields.value_span("protocol");
                self.report
                    .error(span, "family-mismatch", message)
                    .suggest(Some(right.to_string()));
            }
        }
    }
}
