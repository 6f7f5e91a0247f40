//! A ban as records and answers show it.

use engine::{BanOrigin, Evidence, Pattern};
use ipnet::IpNet;
use policy::{Mode, Timestamp, protocol};
use wire::FiveTuple;

use crate::api;

/// The ban as it stands at `now`.
pub fn ban(ban: &engine::Ban, now: Timestamp) -> api::Ban {
    let rule = match &ban.origin {
        BanOrigin::Rule(name) => Some(name.clone()),
        _ => None,
    };
    api::Ban {
        prefix: ban.prefix,
        family: family(ban.prefix).to_owned(),
        detector: match ban.origin {
            BanOrigin::Detector(detector) => Some(detector.name().to_owned()),
            _ => None,
        },
        origin: ban.origin.name().to_owned(),
        reason: ban.reason.clone(),
        since: ban.since.into(),
        expires: (ban.expires != Timestamp::MAX).then(|| ban.expires.into()),
        remaining_s: ban.remaining(now).map(|left| {
            // A ban with half a second left still holds: never show it as over.
            left.as_secs() + u64::from(left.subsec_nanos() > 0)
        }),
        times_banned: ban.times_banned,
        offences: ban.offences,
        grew_from: ban.grew_from.clone(),
        evidence: api::Evidence {
            rule,
            ..ban.evidence.as_ref().map(evidence).unwrap_or_default()
        },
        // Whatever is enforced now, this one never was.
        mode: (ban.would_be).then(|| Mode::Observe.name().to_owned()),
        would_be: ban.would_be,
        kept: false,
        not_kept: None,
    }
}

/// The same, with whether it blocks anything.
pub fn ban_in(mode: Mode, ban: &engine::Ban, now: Timestamp) -> api::Ban {
    let shown = self::ban(ban, now);
    api::Ban {
        mode: shown.mode.or_else(|| Some(mode.name().to_owned())),
        ..shown
    }
}

/// What a detector counted.
pub fn evidence(evidence: &Evidence) -> api::Evidence {
    api::Evidence {
        rule: None,
        count: Some(evidence.count),
        threshold: Some(evidence.threshold),
        window_s: Some(evidence.window.as_secs_f64()),
        first: Some(evidence.first.into()),
        last: Some(evidence.last.into()),
        first_packet: Some(tuple(&evidence.first_packet)),
        last_packet: Some(tuple(&evidence.last_packet)),
        pattern: match evidence.pattern {
            Pattern::Plain => None,
            pattern => Some(pattern.to_string()),
        },
        proven: Some(evidence.proven),
    }
}

/// `ipv4` or `ipv6`.
pub fn family(prefix: IpNet) -> &'static str {
    match prefix {
        IpNet::V4(_) => "ipv4",
        IpNet::V6(_) => "ipv6",
    }
}

/// `tcp 203.0.113.7:40000 to 192.0.2.1:22`, as `test` takes it.
pub fn tuple(tuple: &FiveTuple) -> String {
    let end = |address: std::net::IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let source = end(tuple.source, tuple.source_port);
    let destination = end(tuple.destination, tuple.destination_port);
    match protocol::name(tuple.protocol) {
        Some(name) => format!("{name} {source} to {destination}"),
        None => format!("{} {source} to {destination}", tuple.protocol),
    }
}
