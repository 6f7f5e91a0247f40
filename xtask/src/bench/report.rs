//! What came out of a benchmark beside what was wanted, and the repetition that makes figures comparable.
//!
//! This machine may be busy with other things: arms are measured in turn (A B A B …), and what counts is the median of the
//! ratios of each turn.

use std::sync::OnceLock;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

/// Turns of a comparison whose measurements take seconds.
pub(super) const FEW: usize = 5;
/// Turns of a comparison whose measurements take a second: on a busy machine many short ones tell more than few long ones.
pub(super) const MANY: usize = 11;
/// Turns where the target is within a tenth of one, and single turns differ by as much.
pub(super) const MOST: usize = 31;

/// What a figure should be.
#[derive(Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    Below(f64),
    /// Nothing was promised.
    Open,
}

/// One line of the last table.
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    /// `×`, `s`, `ms`, …
    pub(super) unit: &'static str,
    pub(super) target: Target,
}

impl Figure {
    pub(super) fn new(
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        target: Target,
    ) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            target,
        }
    }

    fn verdict(&self) -> String {
        let reached = match self.target {
            Target::AtLeast(wanted) => self.value >= wanted,
            Target::Below(wanted) => self.value < wanted,
            Target::Open => return "no target".to_owned(),
        };
        if reached {
            "reached".to_owned()
        } else {
            format!("not reached: {}", self.amount(self.value))
        }
    }

    fn amount(&self, value: f64) -> String {
        let digits = match value.abs() {
            0.0..0.1 => 4,
            0.1..100.0 => 2,
            _ => 0,
        };
        format!("{value:.digits$} {}", self.unit)
    }
}

/// Prints figures beside their targets.
pub(super) fn print(figures: &[Figure]) {
    println!(
        "{:<66}  {:>14}  {:>12}  verdict",
        "figure", "measured", "target"
    );
    for figure in figures {
        let target = match figure.target {
            Target::AtLeast(wanted) => format!("≥ {}", figure.amount(wanted)),
            Target::Below(wanted) => format!("< {}", figure.amount(wanted)),
            Target::Open => "–".to_owned(),
        };
        println!(
            "{:<66}  {:>14}  {target:>12}  {}",
            figure.what,
            figure.amount(figure.value),
            figure.verdict()
        );
    }
}

/// Measures each of `N` arms once a turn, in turn; `measure` is given the arm.
///
/// # Errors
/// A measurement failed, or Ctrl-C was pressed.
pub(super) fn alternate<const N: usize>(
    turns: usize,
    mut measure: impl FnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<[Vec<f64>; N]> {
    let mut arms = [const { Vec::new() }; N];
    for _ in 0..turns {
        for (arm, values) in arms.iter_mut().enumerate() {
            go_on()?;
            values.push(measure(arm)?);
        }
    }
    Ok(arms)
}

/// The median of the ratios of each turn.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect())
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that so many of a hundred do not exceed.
pub(super) fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on Ctrl-C ends a benchmark at its next turn, so that everything is torn down.
///
/// # Errors
/// The signals cannot be watched.
pub(super) fn watch_for_interrupt() -> anyhow::Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot watch for Ctrl-C")?;
    }
    Ok(())
}

/// An error once Ctrl-C was pressed.
pub(super) fn go_on() -> anyhow::Result<()> {
    if INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
    {
        bail!("interrupted; everything is torn down");
    }
    Ok(())
}

/// Sleeps, at most a fifth of a second beyond Ctrl-C.
pub(super) fn pause(duration: Duration) -> anyhow::Result<()> {
    let end = std::time::Instant::now() + duration;
    loop {
        go_on()?;
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
}
