//! Offenders among more sources than can be logged.
//!
//! What is logged of refused packets has one budget, and a flood with forged sources uses it up: then detectors see one packet
//! of many hundreds, and a scan goes by unseen. So while the budget is used up, a sample of the packets is counted by places,
//! in sets that cannot overflow. A packet's place is a hash of its source, with a key that the kernel draws: who forges sources
//! cannot choose it. A flood from everywhere fills all places alike and thinly, and one source that sends much stands out. What
//! is over in its place is counted once more, by another hash, since by chance some places of a flood are over at any time, but
//! hardly two of the same source. Who is over there, too, is a suspect, and suspects are logged with a budget of their own.
//! (The meters of floods need none of this: who sends much finds room in them sooner or later, and keeps it.)
//!
//! Most floods go to one port or a few, and a scan goes to many. So ports are counted in the same sample, and what is refused of
//! ports that are not loud has a budget before all that: then a scan stands out by its first packets, however slow it is.
//!
//! The idea is the count-min sketch's (Cormode, Muthukrishnan 2005), its counters being token buckets. Needs `nft_hash`.

use super::list::Family;
use super::rule::meter_set;
use super::writer::Writer;

/// One packet in eight is counted, since counting them all would cost a flood's packets a third more.
const NOT_SAMPLED: &str = "meta random & 0x7 != 0 return";
/// Counted packets of one place, of which there are 65,536, and of those that are over, again.
const PLACE: [&str; 2] = ["3/second burst 2 packets", "1/second burst 1 packets"];
const PLACES: u32 = 65_536;
/// Seconds until a place has its whole burst again.
const PLACE_MEMORY: u64 = 2;
/// Sources under suspicion, and for how many seconds after what was counted of them last. A flood of a million packets a second
/// makes 15,000 of its sources suspects, none of which comes again.
const SUSPECTS: u32 = 16_384;
const SUSPICION: u64 = 4;
/// Protocols whose ports are counted, counted packets of a port that is not loud, and for how many seconds it is loud after one more.
const TRANSPORTS: [&str; 2] = ["tcp", "udp"];
const PORT: &str = "4/second burst 8 packets";
const LOUDNESS: u64 = 4;
const PORTS: u32 = 65_536;
/// What the names of its sets begin with.
pub(super) const SETS: [&str; 4] = ["crowd_", "crowded_", "suspect_", LOUD];
/// And of those by whose entries somebody is logged, and nothing else.
pub(super) const LOGGED: [&str; 3] = ["crowd_v", "crowded_v", "suspect_v"];
/// And of those that hold no bucket, and by whose entries a port is logged less.
pub(super) const LOUD: &str = "loud_";
/// The rule that counts.
pub(super) const COUNT: &str = "jump crowd";

/// Writes the sets and the chain.
pub(super) fn write(writer: &mut Writer<'_>) {
    let mut rules = vec![NOT_SAMPLED.to_owned()];
    for family in Family::BOTH {
        let (crowd, crowded, suspect) = (
            set("crowd", family),
            set("crowded", family),
            set("suspect", family),
        );
        for name in [&crowd, &crowded] {
            let places = meter_set(name, PLACE_TYPE, PLACES, PLACE_MEMORY);
            writer.table.set(places);
        }
        let suspects = meter_set(&suspect, family.key_type(), SUSPECTS, SUSPICION);
        writer.table.set(suspects);
        let (place, source) = (place(family), family.counted_source());
        let [first, again] = PLACE;
        rules.push(format!(
            "update @{crowd} {{ {place} limit rate over {first} }} update @{crowded} {{ {place} limit rate over {again} }} update @{suspect} {{ {source} }}"
        ));
    }
    for transport in TRANSPORTS {
        let (crowd, loud) = (format!("crowd_{transport}"), format!("{LOUD}{transport}"));
        for (name, memory) in [(&crowd, PLACE_MEMORY), (&loud, LOUDNESS)] {
            let ports = meter_set(name, "inet_service", PORTS, memory);
            writer.table.set(ports);
        }
        let port = format!("{transport} dport");
        rules.push(format!(
            "update @{crowd} {{ {port} limit rate over {PORT} }} update @{loud} {{ {port} }}"
        ));
    }
    writer.table.chain("crowd".to_owned(), rules);
}

/// That the packet goes to a port to which few are refused, for each protocol with ports.
pub(super) fn is_to_a_quiet_port() -> impl Iterator<Item = String> {
    (TRANSPORTS.iter()).map(|transport| format!("{transport} dport != @{LOUD}{transport}"))
}

fn set(name: &str, family: Family) -> String {
    format!("{name}_{}", family.suffix())
}

/// The type of a hash's value. (`typeof jhash …` would say it better, but nft 1.0.6 crashes when it lists that.)
const PLACE_TYPE: &str = "mark";

/// A hash of the source. Each that is written gets a key of its own.
fn place(family: Family) -> String {
    format!("jhash {} mod {PLACES}", family.counted_source())
}

/// That the source is a suspect.
pub(super) fn is_suspect(family: Family) -> String {
    let (source, suspect) = (family.counted_source(), set("suspect", family));
    match family {
        Family::V4 => format!("{source} @{suspect}"),
        Family::V6 => format!("{source} == @{suspect}"),
    }
}
