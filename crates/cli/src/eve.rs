//! An EVE event as one line for people: time, what happened, the packet in short, and why.
//!
//! It reads the JSON that `events`, `why` and `replay` carry, so that all three show the same line for the same event.

use serde_json::Value;

use crate::screen::{
    Screen, Tone, endpoint, humane_seconds, several, single, visible, visible_once,
};

/// `#` and the digits of a number below ten million: lines of a record that is no larger stand below each other. A stream of events
/// cannot know the width of the ones to come.
const NUMBER_WIDTH: usize = 8;

/// The line, without its end. What a field should hold and does not is left out.
pub(crate) fn line(event: &Value, screen: &Screen) -> String {
    let (tone, action, why) = what(event);
    let mut line = String::new();
    // A replay numbers nothing: there is no record to ask.
    if let Some(number) = number(event) {
        line = screen.paint(
            Tone::Faint,
            &format!("{:<NUMBER_WIDTH$} ", format!("#{number}")),
        );
    }
    line.push_str(&screen.paint(Tone::Faint, &time(event)));
    line.push(' ');
    line.push_str(&screen.paint(tone, &format!("{action:<12}")));
    let before = line.len();
    for field in ["direction", "in_iface"] {
        if let Some(text) = event[field].as_str() {
            line.push(' ');
            line.push_str(&visible(text));
        }
    }
    if let Some(packet) = packet(event) {
        line.push(' ');
        line.push_str(&visible(&packet));
    }
    if !why.is_empty() {
        let separator = if line.len() > before { ": " } else { " " };
        line.push_str(&screen.paint(Tone::Faint, separator));
        // The reason of a ban was made visible when the ban was made.
        let is_escaped = event["ban"].is_object();
        line.push_str(&if is_escaped {
            visible_once(&why)
        } else {
            visible(&why)
        });
    }
    line
}

/// The number that `why` takes.
fn number(event: &Value) -> Option<u64> {
    ["pktvars", "flowvars"]
        .into_iter()
        .find_map(|vars| event["metadata"][vars][0]["event_id"].as_u64())
}

/// `2027-01-01 00:00:00.000`.
fn time(event: &Value) -> String {
    let stamp = event["timestamp"].as_str().unwrap_or_default();
    visible(&stamp.get(..23).unwrap_or(stamp).replace('T', " "))
}

/// `TCP 203.0.113.7:40000 > 192.0.2.1:22`; a ban has its source in its own words.
fn packet(event: &Value) -> Option<String> {
    let proto = event["proto"].as_str()?;
    let end = |address: &str, port: &str| {
        let port = event[port]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        event[address]
            .as_str()
            .map(|address| endpoint(address, port))
    };
    let mut text = format!(
        "{proto} {} > {}",
        end("src_ip", "src_port")?,
        end("dest_ip", "dest_port")?
    );
    if let (Some(kind), Some(code)) = (event["icmp_type"].as_u64(), event["icmp_code"].as_u64()) {
        text.push_str(&format!(" type {kind} code {code}"));
    }
    Some(text)
}

/// How it is meant, what happened, and why.
fn what(event: &Value) -> (Tone, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let decided = &event["metadata"]["pktvars"][0];
    match event["event_type"].as_str().unwrap_or("?") {
        "drop" => {
            let verdict = if decided["verdict"] == "reject" {
                "REJECT"
            } else {
                "DROP"
            };
            let (tone, action) = if decided["enforced"] == false {
                (Tone::Warning, format!("WOULD-{verdict}"))
            } else {
                (Tone::Bad, verdict.to_owned())
            };
            (tone, action, text(&decided["text"]))
        }
        "firewall" => (Tone::Good, "ALLOW".into(), text(&decided["text"])),
        "dns" => {
            let (tone, action) = match (&decided["verdict"], &decided["enforced"]) {
                (verdict, _) if verdict == "allow" => (Tone::Faint, "DNS"),
                (_, enforced) if enforced == false => (Tone::Warning, "WOULD-DNS-BLOCK"),
                _ => (Tone::Bad, "DNS-BLOCKED"),
            };
            (tone, action.to_owned(), text(&decided["text"]))
        }
        "alert" => (Tone::Warning, "ALERT".into(), alert(event)),
        "anomaly" => (
            Tone::Warning,
            "ANOMALY".into(),
            text(&event["anomaly"]["event"]),
        ),
        "flow" => (Tone::Faint, "FLOW".into(), flow(&event["flow"])),
        "ban" if event["ban"]["mode"] == "observe" => {
            (Tone::Warning, "WOULD-BAN".into(), ban(&event["ban"]))
        }
        "ban" => (Tone::Bad, "BAN".into(), ban(&event["ban"])),
        "unban" => {
            let ban = &event["ban"];
            let how = match (ban["ended"].as_str(), ban["would_be"] == true) {
                (Some("not-enforced"), _) => {
                    "it was never in force, and is not now that enforcing begins"
                }
                (Some("expired"), true) => "it ran out; it was never in force",
                (Some("expired"), false) => "it ran out",
                (_, true) => "it was lifted; it was never in force",
                (_, false) => "it was lifted",
            };
            (
                Tone::Good,
                "UNBAN".into(),
                format!("{}, {how}", prefix(ban)),
            )
        }
        "ban-refused" => (
            Tone::Warning,
            "BAN-REFUSED".into(),
            text(&event["ban"]["refused"]),
        ),
        other => (
            Tone::Bold,
            visible(&other.to_uppercase()),
            text(&event["engine"]["message"]),
        ),
    }
}

fn alert(event: &Value) -> String {
    let alert = &event["alert"];
    let mut text = alert["signature"].as_str().unwrap_or_default().to_owned();
    let evidence = &alert["context"]["evidence"];
    if let Some(pattern) = evidence["pattern"].as_str() {
        text = visible(pattern);
    }
    if let (Some(count), Some(window)) = (evidence["count"].as_u64(), evidence["window_s"].as_f64())
    {
        text.push_str(&format!(": {count} in {window} s"));
        if let Some(threshold) = evidence["threshold"].as_u64() {
            text.push_str(&format!(" (threshold {threshold})"));
        }
    } else if alert["action"] == "blocked" {
        text.push_str(" (stopped)");
    }
    text
}

fn flow(flow: &Value) -> String {
    let count = |field: &str| flow[field].as_u64().unwrap_or(0);
    let counted = match (count("pkts_toserver"), count("pkts_toclient")) {
        // A flow has a packet at least: nobody counted.
        (0, 0) => "packets not counted".to_owned(),
        (out, back) => format!(
            "{} out, {back} back, {}",
            several(out, "packet"),
            several(
                count("bytes_toserver").saturating_add(count("bytes_toclient")),
                "byte"
            )
        ),
    };
    format!(
        "{counted} in {}, {}",
        humane_seconds(count("age")),
        flow["reason"].as_str().unwrap_or("ended")
    )
}

fn ban(ban: &Value) -> String {
    let until = match ban["remaining_s"].as_u64() {
        Some(seconds) => format!("for {}", humane_seconds(seconds)),
        None => "until it is lifted".into(),
    };
    format!(
        "{} {until}: {}",
        prefix(ban),
        ban["reason"].as_str().unwrap_or_default()
    )
}

fn prefix(ban: &Value) -> &str {
    single(ban["prefix"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_event_has_its_line() {
        let screen = Screen::new();
        let stamp = "2027-01-01T10:20:30.123456Z";
        for (event, shown) in [
            (
                json!({"timestamp": stamp, "event_type": "drop", "direction": "in", "in_iface": "eth0", "proto": "TCP",
                    "src_ip": "203.0.113.7", "src_port": 40000, "dest_ip": "192.0.2.1", "dest_port": 22,
                    "metadata": {"pktvars": [{"verdict": "drop", "enforced": true, "text": "no rule matches"}]}}),
                "2027-01-01 10:20:30.123 DROP         in eth0 TCP 203.0.113.7:40000 > 192.0.2.1:22: no rule matches",
            ),
            (
                json!({"timestamp": stamp, "event_type": "drop", "proto": "IPv6-ICMP", "icmp_type": 128, "icmp_code": 0,
                    "src_ip": "2001:db8::7", "dest_ip": "2001:db8::1",
                    "metadata": {"pktvars": [{"verdict": "reject", "enforced": false, "text": "rule \"a\u{1b}\""}]}}),
                "2027-01-01 10:20:30.123 WOULD-REJECT IPv6-ICMP 2001:db8::7 > 2001:db8::1 type 128 code 0: rule \"a\\u{1b}\"",
            ),
            (
                json!({"timestamp": stamp, "event_type": "ban", "src_ip": "203.0.113.7",
                    "ban": {"prefix": "203.0.113.7/32", "remaining_s": 600, "reason": "50 denied packets"}}),
                "2027-01-01 10:20:30.123 BAN          203.0.113.7 for 10m: 50 denied packets",
            ),
            (
                json!({"timestamp": stamp, "event_type": "ban", "src_ip": "203.0.113.7",
                    "ban": {"prefix": "203.0.113.7/32", "remaining_s": 600, "reason": "50 denied packets", "mode": "observe"}}),
                "2027-01-01 10:20:30.123 WOULD-BAN    203.0.113.7 for 10m: 50 denied packets",
            ),
            (
                json!({"timestamp": stamp, "event_type": "unban", "ban": {"prefix": "2001:db8::7/128", "ended": "expired"}}),
                "2027-01-01 10:20:30.123 UNBAN        2001:db8::7, it ran out",
            ),
            (
                json!({"timestamp": stamp, "event_type": "unban",
                    "ban": {"prefix": "2001:db8::7/128", "ended": "expired", "would_be": true, "mode": "observe"}}),
                "2027-01-01 10:20:30.123 UNBAN        2001:db8::7, it ran out; it was never in force",
            ),
            (
                json!({"timestamp": stamp, "event_type": "unban",
                    "ban": {"prefix": "203.0.113.7/32", "ended": "not-enforced", "would_be": true, "mode": "observe"}}),
                "2027-01-01 10:20:30.123 UNBAN        203.0.113.7, it was never in force, and is not now that enforcing begins",
            ),
            (
                json!({"timestamp": stamp, "event_type": "daemon", "engine": {"message": "it began"}}),
                "2027-01-01 10:20:30.123 DAEMON       it began",
            ),
            (
                json!({"timestamp": stamp, "event_type": "ban", "src_ip": "203.0.113.7", "metadata": {"pktvars": [{"event_id": 2667}]},
                    "ban": {"prefix": "203.0.113.7/32", "reason": "a\\tb"}}),
                "#2667    2027-01-01 10:20:30.123 BAN          203.0.113.7 until it is lifted: a\\tb",
            ),
            (
                json!({"timestamp": stamp, "event_type": "flow", "proto": "TCP", "src_ip": "192.0.2.7", "dest_ip": "192.0.2.1",
                    "flow": {"pkts_toserver": 1, "pkts_toclient": 1, "bytes_toserver": 80, "bytes_toclient": 40, "age": 3},
                    "metadata": {"flowvars": [{"event_id": 12345678}]}}),
                "#12345678 2027-01-01 10:20:30.123 FLOW         TCP 192.0.2.7 > 192.0.2.1: 1 packet out, 1 back, 120 bytes in 3s, ended",
            ),
            (
                json!({"timestamp": stamp, "event_type": "flow", "proto": "TCP", "src_ip": "192.0.2.7", "dest_ip": "192.0.2.1",
                    "flow": {"pkts_toserver": 0, "pkts_toclient": 0, "age": 3, "reason": "timeout"}}),
                "2027-01-01 10:20:30.123 FLOW         TCP 192.0.2.7 > 192.0.2.1: packets not counted in 3s, timeout",
            ),
            (json!({}), " ?           "),
        ] {
            assert_eq!(line(&event, &screen), shown);
        }
    }
}
