//! What a person or a program sees: standard output with colours where they help, tables, durations, and no byte off the wire
//! shown raw.

mod duration;
mod endpoint;
mod moment;
mod progress;
mod table;

pub(crate) use duration::{
    humane, humane_seconds, parse_ban_length, parse_confirm, parse_duration,
};
pub(crate) use endpoint::endpoint;
pub(crate) use moment::{moment, plain_times};
pub(crate) use progress::{bar, spinner};
pub(crate) use table::{Cell, Table};

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

pub(crate) use daemon::record::explain::several;

use daemon::record::escape::{Escaped, is_hazard, write_json};
use serde::Serialize;

/// How a word is meant; on a terminal it becomes a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Something that matters less.
    Faint,
    /// It passes; all is well.
    Good,
    /// Limited, warned of.
    Warning,
    /// It does not pass; something failed.
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }

    /// The tone of a verdict or action by its name.
    pub(crate) fn of_verdict(name: &str) -> Self {
        match name {
            "allow" => Self::Good,
            "limit" => Self::Warning,
            "drop" | "deny" | "reject" | "ban" => Self::Bad,
            _ => Self::Plain,
        }
    }
}

/// Standard output.
pub(crate) struct Screen {
    out: BufWriter<Stdout>,
    colour: bool,
    terminal: bool,
    /// Characters in a line of the terminal; `None` where nobody looks.
    width: Option<usize>,
}

impl Screen {
    /// Colours only on a terminal that can show them, and not when NO_COLOR is set (<https://no-color.org>).
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
            colour: terminal && colour_wanted(),
            terminal,
            width: terminal_size::terminal_size_of(io::stdout())
                .map(|(terminal_size::Width(width), _)| usize::from(width))
                .filter(|width| *width > 0),
        }
    }

    /// One line of text that is ours or was made [`visible`] already.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.raw(line.as_ref())?;
        self.out.write_all(b"\n")
    }

    /// Text as it is.
    pub(crate) fn raw(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Bytes for a program: no colours, no escapes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// A value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = Vec::new();
        write_json(value, &mut line)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }

    /// A table, or what to say when it has no rows.
    pub(crate) fn table(&mut self, table: &Table, empty: &str) -> io::Result<()> {
        if table.is_empty() {
            return self.line(empty);
        }
        let text = table.render(self.width, |tone, text| self.paint(tone, text));
        self.raw(&text)
    }

    /// The text in its tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour && tone != Tone::Plain {
            format!("\x1b[{}m{text}\x1b[0m", tone.code())
        } else {
            text.to_owned()
        }
    }

    /// Hands what was written to the reader now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }
}

/// Whether whoever looks wants colours, on a terminal.
pub(crate) fn colour_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text that others wrote, with what would move the cursor, recolour the terminal or reorder the line shown as escapes.
pub(crate) fn visible(text: &str) -> String {
    Escaped(text).to_string()
}

/// The same for text that the daemon has made visible already, as it does with the reason of a ban: its escapes are not escaped
/// again. Anything that a terminal would act on is escaped all the same, whoever let it through.
pub(crate) fn visible_once(text: &str) -> String {
    if text.chars().any(is_hazard) {
        visible(text)
    } else {
        text.to_owned()
    }
}

/// A prefix without its length when it is one address; any other text as it is.
pub(crate) fn single(prefix: &str) -> &str {
    match (prefix.strip_suffix("/32"), prefix.contains(':')) {
        (Some(address), false) => address,
        _ => prefix.strip_suffix("/128").unwrap_or(prefix),
    }
}

/// Says that a firewall that is asked what it drops drops nothing, when it only observes.
pub(crate) fn warn_if_observing(mode: Option<&str>) {
    if mode == Some("observe") {
        warn("! nothing is blocked: mode observe only shows what would be");
    }
}

/// Passes on what the daemon or a policy warns of.
pub(crate) fn pass_on(warning: &str) {
    warn(&format!("warning: {warning}"));
}

/// Says that what was asked for is in force and would not outlive a restart, where that is so.
pub(crate) fn warn_if_not_kept(why: Option<&str>) {
    if let Some(why) = why {
        warn(&format!("! {why}"));
    }
}

/// Says something on standard error that is no failure.
pub(crate) fn warn(message: &str) {
    eprintln!("portcullis: {}", plain_times(&visible(message)));
}
