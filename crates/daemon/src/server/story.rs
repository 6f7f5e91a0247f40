//! The story of an address in sentences: how it is now, then what happened.

use ipnet::IpNet;
use policy::Mode;
use serde_json::Value;

use crate::api::{Ban, BanHistory, Evidence, Time, Why, WhyCount, WhyFeed};
use crate::guard::{Standing, feed_text};
use crate::record::explain::short;

/// The mode in which nothing is blocked.
const OBSERVE: &str = Mode::Observe.name();
/// So many packets on record for one reason may well be of a flood, of which most are left out.
const FLOOD: u64 = 1_000;

/// What holds now, then what happened.
pub(super) fn of_prefix(why: &Why, standing: &Standing, prefix: IpNet) -> Vec<String> {
    let mut story = how_it_is(why, standing, prefix);
    let dropping = why.ban.iter().chain(&why.around);
    for (place, ban) in dropping.enumerate() {
        if place > 0 || why.protected.is_some() {
            story.push(ban_sentence(ban));
        }
        story.extend(about(ban));
    }
    story.extend(match why.parts {
        0 => None,
        1 => Some("Another ban is of a part of it; `portcullis bans` lists it.".to_owned()),
        parts => Some(format!(
            "{parts} other bans are of parts of it; `portcullis bans` lists them."
        )),
    });
    let is_dropped_by_feed = why.protected.is_none() && why.ban.is_none();
    for feed in why.feeds.iter().skip(usize::from(is_dropped_by_feed)) {
        let however = match (&why.protected, &why.ban) {
            (Some(_), _) => ", which changes nothing while it is protected",
            // Of a wider prefix the ban holds a part, and the feed drops what it holds beside that.
            (None, Some(ban)) if ban.prefix.contains(&prefix) => {
                ", which drops it when the ban ends"
            }
            (None, _) => "",
        };
        let part = if feed.whole { "" } else { "A part of " };
        let (name, feed) = (short(prefix), feed_text(feed));
        story.push(format!("{part}{name} is in {feed} too{however}."));
    }
    story.extend(why.history.as_ref().map(history_sentence));
    story.extend(why.denied.iter().map(denied_sentence));
    if why.denied.iter().any(|denied| denied.count >= FLOOD) {
        story.push(
            "Of a flood at most some thousand packets a second are on record, of all sources together: it may have sent more than these."
                .to_owned(),
        );
    }
    for ban in &why.past_bans {
        let by = ban.detector.as_ref().unwrap_or(&ban.origin);
        story.push(format!(
            "{} {} banned from {} on ({by}): {}.",
            short(ban.prefix),
            if ban.would_be {
                "would have been"
            } else {
                "was"
            },
            ban.since,
            ban.reason
        ));
    }
    match (why.first_seen, why.last_seen) {
        (Some(first), Some(last)) if first == last => {
            story.push(format!("It is on record once, at {first}."));
        }
        (Some(first), Some(last)) => {
            story.push(format!("It is on record {}.", when(first, last)));
        }
        _ => story.push("Nothing of it is on record.".to_owned()),
    }
    story
}

/// Packets on record, of which one counts for itself alone: of a flood most are not there.
fn denied_sentence(denied: &WhyCount) -> String {
    format!(
        "{} on record {} {}, {}: {}.",
        match denied.count {
            1 => "1 packet".to_owned(),
            count => format!("{count} packets"),
        },
        match (denied.enforced, denied.count) {
            (true, 1) => "was",
            (true, _) => "were",
            (false, _) => "would have been",
        },
        if denied.decided.verdict == "reject" {
            "rejected"
        } else {
            "dropped"
        },
        when(denied.first, denied.last),
        denied.decided.text,
    )
}

/// From when to when, for people, who read times by the second.
fn when(first: Time, last: Time) -> String {
    let second = |time: Time| time.0.as_nanos() / 1_000_000_000;
    if second(first) == second(last) {
        format!("at {first}")
    } else {
        format!("from {first} to {last}")
    }
}

/// What becomes of its packets at this moment, and whether anything does.
pub(super) fn how_it_is(why: &Why, standing: &Standing, prefix: IpNet) -> Vec<String> {
    let nothing = "Nothing is blocked now: the firewall only observes.".to_owned();
    let mut story: Vec<String> = (why.mode == OBSERVE)
        .then_some(nothing)
        .into_iter()
        .collect();
    story.push(now(why, standing, prefix));
    story
}

fn now(why: &Why, standing: &Standing, prefix: IpNet) -> String {
    let name = short(prefix);
    let dropped = |whole: bool| match (standing.mode == Mode::Enforce, whole) {
        (true, true) => "Dropped now:",
        (true, false) => "Dropped now, in part:",
        (false, true) => "It would be dropped now, if this were enforced:",
        (false, false) => "A part of it would be dropped now, if this were enforced:",
    };
    if let Some(why) = &why.protected {
        return format!(
            "{name} is protected ({why}): no ban, feed or detector drops it, rules still do."
        );
    }
    if let Some(ban) = &why.ban {
        let whole = ban.prefix.contains(&prefix);
        return format!("{} {}", dropped(whole), ban_sentence(ban));
    }
    if let Some(feed) = why.feeds.first() {
        return format!(
            "{} {}; `portcullis allow {name}` lets it past.",
            dropped(feed.whole),
            held(feed, prefix)
        );
    }
    let rules = match standing.rules.as_slice() {
        [] => "the rules decide about it as about anybody".to_owned(),
        [one] => format!("the rules decide, and it is named in {one}"),
        many => format!("the rules decide, and it is named in {}", many.join(", ")),
    };
    format!("{name} is neither banned nor in a feed: {rules}.")
}

fn held(feed: &WhyFeed, prefix: IpNet) -> String {
    let part = if feed.whole { "" } else { "a part of " };
    format!("{part}{} is in {}", short(prefix), feed_text(feed))
}

/// The first and the last packet that counted.
fn packets(evidence: &Evidence) -> Option<String> {
    let (first, last) = (
        evidence.first_packet.as_ref()?,
        evidence.last_packet.as_ref()?,
    );
    let at = |time: Option<Time>| time.map_or_else(String::new, |time| format!(" at {time}"));
    Some(
        if evidence.first == evidence.last && evidence.first_packet == evidence.last_packet {
            format!("The packet that counted: {first}{}.", at(evidence.first))
        } else {
            format!(
                "The first packet that counted: {first}{}; the last: {last}{}.",
                at(evidence.first),
                at(evidence.last)
            )
        },
    )
}

/// `2nd`, `11th`, `23rd`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// What a ban rests on beside its reason.
fn about(ban: &Ban) -> Vec<String> {
    let mut story: Vec<String> = packets(&ban.evidence).into_iter().collect();
    if !ban.grew_from.is_empty() {
        let names: Vec<String> = ban.grew_from.iter().map(|net| short(*net)).collect();
        story.push(format!(
            "It was widened to {} because of the bans of {}, which stay as they are.",
            short(ban.prefix),
            names.join(", ")
        ));
    }
    if ban.evidence.proven == Some(false) {
        story.push(
            "Somebody else could have sent these packets in its name, so that this ban makes no other longer or wider."
                .to_owned(),
        );
    }
    story
}

fn history_sentence(history: &BanHistory) -> String {
    let times = |count: u32| match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let name = short(history.prefix);
    let doubled = match history.offences {
        0 => "its next ban is as long as a first one".to_owned(),
        count => format!("its next ban is doubled {}", times(count)),
    };
    let lifted = history.lifted.map_or_else(String::new, |at| {
        format!(", and what was before its ban was lifted at {at} does not count")
    });
    format!(
        "{name} was banned {} that is remembered, last at {}: {doubled}{lifted}.",
        times(history.times_banned),
        history.last
    )
}

fn ban_sentence(ban: &Ban) -> String {
    let until = match ban.expires {
        Some(expires) => format!("until {expires}"),
        None => "until the ban is lifted".to_owned(),
    };
    let by = match (&ban.detector, ban.evidence.rule.as_ref()) {
        (Some(detector), _) => format!("by the detector {detector}"),
        (None, Some(rule)) => format!("by the rule \"{rule}\""),
        (None, None) => format!(
            "by {}",
            if ban.origin == "manual" {
                "hand"
            } else {
                &ban.origin
            }
        ),
    };
    let times = match ban.times_banned {
        1 => String::new(),
        times => format!(", for the {} time", ordinal(times)),
    };
    format!(
        "{} {} banned since {} {until}, {by}{times}: {}.",
        short(ban.prefix),
        if ban.mode.as_deref() == Some(OBSERVE) {
            "would be"
        } else {
            "is"
        },
        ban.since,
        ban.reason
    )
}

/// An event in one sentence, and of a ban or an alert the packets that led to it.
pub(super) fn of_event(event: &Value) -> Vec<String> {
    let evidence = ["/ban/evidence", "/alert/context/evidence"]
        .iter()
        .find_map(|pointer| event.pointer(pointer))
        .and_then(|evidence| serde_json::from_value::<Evidence>(evidence.clone()).ok());
    let mut story = vec![sentence(event)];
    story.extend(evidence.as_ref().and_then(packets));
    story
}

/// An event in one sentence.
fn sentence(event: &Value) -> String {
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let at = text("/timestamp");
    let packet = || {
        let end = |address: &str, port: &str| match event[port].as_u64() {
            Some(port) => format!("{} port {port}", text(address)),
            None => text(address).to_owned(),
        };
        format!(
            "{} from {} to {}",
            text("/proto"),
            end("/src_ip", "src_port"),
            end("/dest_ip", "dest_port")
        )
    };
    let banned = || {
        let prefix = text("/ban/prefix");
        (prefix.parse().ok()).map_or_else(|| prefix.to_owned(), |prefix: IpNet| short(prefix))
    };
    let decided = text("/metadata/pktvars/0/text");
    match text("/event_type") {
        "drop" => {
            let enforced = event
                .pointer("/metadata/pktvars/0/enforced")
                .and_then(Value::as_bool);
            let verdict = match (text("/metadata/pktvars/0/verdict"), enforced) {
                ("reject", Some(false)) => "would have been rejected",
                ("reject", _) => "was rejected",
                (_, Some(false)) => "would have been dropped",
                _ => "was dropped",
            };
            format!("At {at}, a packet, {}, {verdict}: {decided}.", packet())
        }
        "firewall" => format!("At {at}, a packet, {}, passed: {decided}.", packet()),
        "dns" => format!("At {at}, a question, {}: {decided}.", packet()),
        // Of all sources together.
        "alert" if event["src_ip"].is_null() => format!("At {at}, {}.", text("/alert/signature")),
        "alert" => format!("At {at}, {}: {}.", packet(), text("/alert/signature")),
        "anomaly" => format!(
            "At {at}, a broken or impossible packet, {}: {}.",
            packet(),
            text("/anomaly/event")
        ),
        "flow" => format!(
            "At {at}, a flow, {}, ended ({}).",
            packet(),
            text("/flow/reason")
        ),
        "ban" => format!(
            "At {at}, {} {} banned: {}.",
            banned(),
            if text("/ban/mode") == OBSERVE {
                "would have been"
            } else {
                "was"
            },
            text("/ban/reason")
        ),
        "unban" => {
            let how = match text("/ban/ended") {
                "expired" => "it ran out",
                "not-enforced" => "it is none now that enforcing begins",
                _ => "it was lifted",
            };
            let would_be = event["ban"]["would_be"] == true;
            let never = if would_be {
                ", which was never in force,"
            } else {
                ""
            };
            format!("At {at}, the ban of {}{never} ended: {how}.", banned())
        }
        "ban-refused" => format!("At {at}, a ban was refused: {}.", text("/ban/refused")),
        _ => format!("At {at}: {}.", text("/engine/message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_told_by_its_address_and_its_mode() {
        let event = |kind: &str, prefix: &str, mode: &str| {
            serde_json::json!({"event_type": kind, "timestamp": "T",
                "ban": {"prefix": prefix, "mode": mode, "reason": "because", "ended": "lifted"}})
        };
        let would_be = |ended: &str| {
            serde_json::json!({"event_type": "unban", "timestamp": "T",
                "ban": {"prefix": "192.0.2.7/32", "mode": "observe", "would_be": true, "ended": ended}})
        };
        for (event, told) in [
            (
                event("ban", "192.0.2.7/32", "enforce"),
                "At T, 192.0.2.7 was banned: because.",
            ),
            (
                event("ban", "2001:db8::/64", "observe"),
                "At T, 2001:db8::/64 would have been banned: because.",
            ),
            (
                event("unban", "2001:db8::7/128", "enforce"),
                "At T, the ban of 2001:db8::7 ended: it was lifted.",
            ),
            (
                would_be("expired"),
                "At T, the ban of 192.0.2.7, which was never in force, ended: it ran out.",
            ),
            (
                would_be("not-enforced"),
                "At T, the ban of 192.0.2.7, which was never in force, ended: it is none now that enforcing begins.",
            ),
        ] {
            assert_eq!(of_event(&event), [told]);
        }
    }

    #[test]
    fn what_is_counted_is_what_is_on_record() {
        let denied = |count, enforced, verdict: &str| WhyCount {
            decided: crate::api::Decided {
                verdict: verdict.to_owned(),
                text: "no rule matches".to_owned(),
                ..crate::api::Decided::default()
            },
            count,
            first: Time::default(),
            last: Time::default(),
            enforced,
        };
        for (denied, begin) in [
            (
                denied(1, true, "drop"),
                "1 packet on record was dropped, at ",
            ),
            (
                denied(7, true, "reject"),
                "7 packets on record were rejected, at ",
            ),
            (
                denied(1, false, "drop"),
                "1 packet on record would have been dropped, at ",
            ),
        ] {
            let told = denied_sentence(&denied);
            assert!(told.starts_with(begin), "{told}");
        }
    }

    #[test]
    fn ordinals() {
        for (number, text) in [
            (2, "2nd"),
            (3, "3rd"),
            (4, "4th"),
            (11, "11th"),
            (12, "12th"),
            (21, "21st"),
            (112, "112th"),
        ] {
            assert_eq!(ordinal(number), text);
        }
    }
}
