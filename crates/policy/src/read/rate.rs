//! `rate = { connections = 20, per = "1s", burst = 40 }`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::byte_bucket::ByteBucket;
use crate::diagnostic::quoted;
use crate::fields::{Fields, wrong_type};
use crate::plan::{Rate, RateUnit};
use crate::quantity;
use crate::report::Report;
use crate::time_unit::TimeUnit;
use crate::tree::{Node, Span};

use super::Reported;

const UNITS: &[(&str, RateUnit)] = &[
    ("connections", RateUnit::Connections),
    ("packets", RateUnit::Packets),
    ("bytes", RateUnit::Bytes),
];

pub(super) fn read(node: &Node, report: &mut Report) -> Result<Rate, Reported> {
    let expected = "a table such as { connections = 20, per = \"1s\", burst = 40 }";
    if !matches!(node.value, crate::tree::Value::Table(_)) {
        wrong_type(node, "rate", expected, report);
        return Err(Reported);
    }
    let mut fields = Fields::of(node, "rate", report).ok_or(Reported)?;
    let mut amounts = Vec::new();
    for &(key, unit) in UNITS {
        if fields.get(key).is_some() {
            amounts.push((key, unit, fields.count(key, 1..=u32::MAX, report)));
        }
    }
    let per = fields.get("per");
    let counted = amounts.first().copied();
    let counted = counted.and_then(|(key, _, amount)| Some((key, amount?)));
    // Told whatever else is wrong.
    let per = match per {
        Some(per) => period(per, counted, report),
        None => Ok(TimeUnit::Second),
    };
    let burst_given = fields.get("burst").is_some();
    let burst = fields.count("burst", 1..=u32::MAX, report);
    let is_damaged = fields.is_damaged();
    let second_key = amounts.get(1).map(|(key, ..)| (fields.key_span(key), *key));
    fields.finish(report);

    let (unit, amount) = match amounts.as_slice() {
        [(_, unit, amount)] => (*unit, *amount),
        [] => {
            if !is_damaged {
                report
                    .error(node.span, "bad-rate", "the rate does not say of what")
                    .expected("connections = N, packets = N or bytes = N");
            }
            return Err(Reported);
        }
        [(first, ..), ..] => {
            if let Some((span, second)) = second_key {
                let message = format!("a rate counts one thing, not {first} and {second}");
                report.error(span, "bad-rate", message);
            }
            return Err(Reported);
        }
    };
    let amount = amount.and_then(NonZeroU32::new).ok_or(Reported)?;
    let per = per?;
    if burst_given && burst.is_none() {
        return Err(Reported);
    }
    let rate = Rate {
        amount,
        unit,
        per: Duration::from_secs(per.seconds()),
        burst: burst.and_then(NonZeroU32::new).unwrap_or(amount),
    };
    fits_the_kernel(&rate, node.span, report)?;
    if burst_given {
        holds_a_second(&rate, node.span, report);
    }
    Ok(rate)
}

/// Whether the text says `1m`, `m` or `minute`.
fn names(text: &str, unit: TimeUnit) -> bool {
    text == unit.name() || text.strip_prefix('1').unwrap_or(text) == letter(unit)
}

fn letter(unit: TimeUnit) -> &'static str {
    &unit.name()[..1]
}

/// The period; `counted` is how much of what it is for, where that is known.
fn period(
    node: &Node,
    counted: Option<(&str, u32)>,
    report: &mut Report,
) -> Result<TimeUnit, Reported> {
    let expected = "1s, 1m, 1h or 1d";
    let Some(text) = node.text() else {
        wrong_type(node, "per", expected, report);
        return Err(Reported);
    };
    let mut known = TimeUnit::PERIODS.into_iter();
    if let Some(unit) = known.find(|&unit| names(text, unit)) {
        return Ok(unit);
    }
    // 20 each 10s is 2 each second, or 120 each minute.
    let wanted = quantity::duration(text).map_or(0, |d| d.as_millis() as u64);
    let same = TimeUnit::PERIODS.into_iter().find_map(|unit| {
        let (key, amount) = counted?;
        let scaled = u64::from(amount).checked_mul(unit.seconds() * 1_000)?;
        let is_whole = wanted > 0 && scaled.is_multiple_of(wanted);
        is_whole.then(|| format!("{key} = {}, per = \"1{}\"", scaled / wanted, letter(unit)))
    });
    let message = format!("per cannot be {}", quoted(text));
    report
        .error(node.span, "bad-rate", message)
        .expected(expected)
        .suggest(same);
    Err(Reported)
}

/// The kernel counts in nanoseconds in 64 bits, and refuses what overflows them (net/netfilter/nft_limit.c, `nft_limit_init`).
fn fits_the_kernel(rate: &Rate, span: Span, report: &mut Report) -> Result<(), Reported> {
    let (amount, burst) = (u64::from(rate.amount.get()), u64::from(rate.burst.get()));
    let period = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
    let fits = match rate.unit {
        RateUnit::Bytes => ByteBucket::counts(rate),
        RateUnit::Connections | RateUnit::Packets => (period / amount).checked_mul(burst).is_some(),
    };
    if fits {
        return Ok(());
    }
    report
        .error(
            span,
            "bad-rate",
            "the rate and burst are more than the kernel can count in so long a period",
        )
        .expected("a smaller burst, or a shorter per with a smaller amount");
    Err(Reported)
}

/// The kernel's bucket of bytes holds at least what comes in a second; a smaller burst is no error, but not what comes of it.
fn holds_a_second(rate: &Rate, span: Span, report: &mut Report) {
    let second = u64::from(rate.amount.get()) / rate.per.as_secs().max(1);
    if rate.unit != RateUnit::Bytes || second <= u64::from(rate.burst.get()) {
        return;
    }
    let message = format!(
        "the kernel lets at least what comes in a second pass at once: {second} bytes, not {}",
        rate.burst
    );
    report
        .warning(span, "small-burst", message)
        .expected("a burst of as much, or a smaller rate");
}
