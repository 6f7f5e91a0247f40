//! Offenders among more sources than can be logged.
//!
//! What is logged of refused packets has one budget, and a flood with forged sources uses it up: then detectors see one packet
//! of many hundreds, and a scan goes by unseen. So while the budget is used up, a sample of the packets is counted in a set
//! that cannot overflow: by 16 bits of their source. A flood from everywhere fills all of its places alike and thinly, and
//! one source that sends much stands out. What is over there makes its sources suspects, and these are logged with a budget of
//! their own. (The meters of floods need none of this: who sends much finds room in them sooner or later, and keeps it.)

use super::list::Family;
use super::rule::meter_set;
use super::writer::Writer;

/// One packet in eight is counted, since counting them all would cost a flood's packets a third more.
const SAMPLE: &str = "meta random & 0x7 == 0";
/// Counted packets of one place, of which there are 65,536. A flood from everywhere stays below it up to 1.5 million packets a
/// second.
const PLACE: &str = "3/second burst 3 packets";
const PLACES: u32 = 65_536;
/// Seconds until a place has its whole burst again.
const PLACE_MEMORY: u64 = 2;
/// Sources under suspicion, and for how many seconds after what was counted of them last.
const SUSPECTS: u32 = 4_096;
const SUSPICION: u64 = 10;
/// What the names of its sets begin with.
pub(super) const SETS: [&str; 2] = ["crowd_v", "suspect_v"];
/// The rule that counts.
pub(super) const COUNT: &str = "jump crowd";

/// Writes the sets and the chain.
pub(super) fn write(writer: &mut Writer<'_>) {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let (crowd, suspect) = (set("crowd", family), set("suspect", family));
        for (name, size, memory) in [
            (&crowd, PLACES, PLACE_MEMORY),
            (&suspect, SUSPECTS, SUSPICION),
        ] {
            writer.table.set(meter_set(name, family, size, memory));
        }
        let (place, source) = (place(family), family.counted_source());
        rules.push(format!(
            "{SAMPLE} update @{crowd} {{ {place} limit rate over {PLACE} }} update @{suspect} {{ {source} }}"
        ));
    }
    writer.table.chain("crowd".to_owned(), rules);
}

fn set(name: &str, family: Family) -> String {
    format!("{name}_{}", family.suffix())
}

/// 16 bits of the source: the lower ones of an IPv4 address, and of an IPv6 `/64`.
fn place(family: Family) -> String {
    let mask = match family {
        Family::V4 => "0.0.255.255",
        Family::V6 => "::ffff:0:0:0:0",
    };
    format!("{} saddr & {mask}", family.header())
}

/// That the source is a suspect.
pub(super) fn is_suspect(family: Family) -> String {
    let (source, suspect) = (family.counted_source(), set("suspect", family));
    match family {
        Family::V4 => format!("{source} @{suspect}"),
        Family::V6 => format!("{source} == @{suspect}"),
    }
}
