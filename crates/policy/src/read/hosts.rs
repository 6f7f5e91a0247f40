//! `sni` and `http_host` of a rule: the servers that clients ask for.

use crate::content::Content;
use crate::diagnostic::quoted;
use crate::fields::{Fields, parts};
use crate::host::{HostField, HostPattern};
use crate::protocol::{Protocols, TCP};
use crate::tree::{Node, Span};

use super::{MOST_HOSTS, Reader, Reported};

impl Reader<'_> {
    /// The hosts of a rule; nothing when it names none. A rule looks for one thing in what is sent.
    pub(super) fn hosts(&mut self, fields: &mut Fields<'_>) -> Result<Option<Content>, Reported> {
        // Asked for in any case, so that both are known to the rule.
        let nodes = HostField::ALL.map(|field| (field, fields.get(field.key())));
        let asked = [("payload", fields.get("payload").is_some())].into_iter();
        let asked: Vec<&str> = asked
            .chain(nodes.map(|(field, node)| (field.key(), node.is_some())))
            .filter_map(|(key, is_there)| is_there.then_some(key))
            .collect();
        if let [first, second, ..] = asked.as_slice() {
            let message = format!("a rule looks for one thing, not for {first} and {second}");
            self.report
                .error(fields.key_span(second), "content-twice", message)
                .expected("one of payload, sni and http_host; a second rule for the second");
        }
        // Of too many each is read, as each may be wrong by itself.
        let written = nodes
            .into_iter()
            .filter_map(|(field, node)| Some((field, node?)));
        let read: Vec<_> = written
            .map(|(field, node)| self.hosts_of(field, node))
            .collect();
        if asked.len() > 1 {
            return Err(Reported);
        }
        read.into_iter().next().transpose()
    }

    /// What is written for one of the fields.
    fn hosts_of(&mut self, field: HostField, node: &Node) -> Result<Content, Reported> {
        let expected = expected(field);
        let parts = parts(node, field.key(), expected, self.report).ok_or(Reported)?;
        if parts.len() > MOST_HOSTS {
            let message = format!("{} lists {} names", field.key(), parts.len());
            self.report
                .error(node.span, "too-many", message)
                .expected(format!(
                    "at most {MOST_HOSTS}; *.example covers all below it"
                ));
            return Err(Reported);
        }
        let mut hosts = Vec::with_capacity(parts.len());
        let count = parts.len();
        for (text, span) in parts {
            match HostPattern::parse(&text, field) {
                Ok(host) => hosts.push(host),
                Err(why) => {
                    let message = format!("{} is no domain name: it {why}", quoted(&text));
                    self.report
                        .error(span, "bad-domain", message)
                        .expected(expected);
                }
            }
        }
        if hosts.is_empty() || hosts.len() < count {
            return Err(Reported);
        }
        Ok(Content::of_hosts(field, hosts))
    }

    /// What carries the names: TCP, which the rule has to name or leave open.
    pub(super) fn over_tcp(
        &mut self,
        protocols: Protocols,
        content: &Content,
        span: Span,
    ) -> Result<Protocols, Reported> {
        let tcp = Protocols::one(TCP);
        if protocols.is_any() || protocols == tcp {
            return Ok(tcp);
        }
        let key = content.hosts().map_or("sni", |(field, _)| field.key());
        let message = format!("{key} is read from TCP alone, and the rule is for {protocols}");
        self.report
            .error(span, "name-without-tcp", message)
            .expected(
                "protocol = \"tcp\", or none; QUIC hides its names: deny udp port 443 as a whole",
            );
        Err(Reported)
    }
}

const fn expected(field: HostField) -> &'static str {
    match field {
        HostField::Sni => {
            "a domain such as a.example, *.a.example for all below it, .a.example for both, or * for every name"
        }
        HostField::HttpHost => {
            "a domain such as a.example, *.a.example for all below it, .a.example for both, * for every host, or an address; without port"
        }
    }
}
