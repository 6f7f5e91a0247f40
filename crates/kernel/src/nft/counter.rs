//! What the named counters of our table hold.

use crate::datapath::{Count, Counters, DatapathError};
use crate::netlink::{Builder, Socket};
use crate::tag::Cause;

use super::message::{INET, OBJECT_COUNTER, attribute, list, table_exists};
use super::{TABLE, question, rule, writer};

/// All of them.
pub(super) fn all(socket: &mut Socket) -> Result<Counters, DatapathError> {
    if !table_exists(socket)? {
        return Err(DatapathError::NotApplied);
    }
    let mut counters = Counters::default();
    let filter = |builder: &mut Builder| {
        builder
            .string(attribute::OBJECT_TABLE, TABLE)
            .be32(attribute::OBJECT_TYPE, OBJECT_COUNTER);
    };
    list(socket, libc::NFT_MSG_GETOBJ, INET, filter, |message| {
        let Some((_, attributes)) = message.netfilter() else {
            return;
        };
        let text = |kind| attributes.get(kind).map_or("", |value| value.string());
        let kind = attributes
            .get(attribute::OBJECT_TYPE)
            .and_then(|kind| kind.be32());
        if text(attribute::OBJECT_TABLE) != TABLE || kind != Some(OBJECT_COUNTER) {
            return;
        }
        let Some(data) = attributes.get(attribute::OBJECT_DATA) else {
            return;
        };
        let number = |kind| {
            data.nested()
                .get(kind)
                .and_then(|value| value.be64())
                .unwrap_or_default()
        };
        let count = Count {
            packets: number(attribute::COUNTER_PACKETS),
            bytes: number(attribute::COUNTER_BYTES),
        };
        let name = text(attribute::OBJECT_NAME);
        if name == question::OVER {
            counters.questions_over = count;
        } else if name == writer::FLOWS_UNTOLD {
            counters.flows_untold = count;
        } else if let Some(rule) = rule::handed_up_rule(name) {
            counters.handed_up.insert(rule, count);
        } else if let Some(cause) = Cause::from_counter(name) {
            counters.causes.insert(cause, count);
        }
    })?;
    Ok(counters)
}
