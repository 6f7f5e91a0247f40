//! A block list of names: what it takes in memory and what a question costs, beside a `HashSet` of strings and an `fst`.
//!
//! Every entry stands for itself and for all below it, so that all suffixes of a question have to be looked for. The peers are given
//! their best: the hash set is asked for each suffix of a name already in lower case, the automaton holds the names from right to
//! left and is walked once.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, ensure};
use policy::names::{NameSet, NameSetBuilder, Pattern, Reach, SourceId};

use super::report::{Figure, MANY, Target, alternate, median};
use super::timed;

const SIZES: [usize; 2] = [100_000, 1_000_000];
const QUESTIONS: usize = 200_000;
/// See docs/benchmarks.md.
const MOST_BYTES: f64 = 8.4;
const MOST_NANOSECONDS: f64 = 60.0;
const MOST_SECONDS: f64 = 1.0;
const SEED: u64 = 0x005e_ed0f_5eed;

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// A label as people register it.
    fn word(&mut self) -> String {
        const BEGIN: &[&str] = &[
            "b", "br", "c", "ch", "d", "f", "g", "k", "l", "m", "n", "p", "pr", "r", "s", "st",
            "t", "tr", "v", "w", "z", "",
        ];
        const MIDDLE: &[&str] = &["a", "e", "i", "o", "u", "ai", "ea", "oo"];
        const END: &[&str] = &["", "", "", "n", "r", "s", "t", "l", "m", "ck", "x"];
        let mut word = String::new();
        for _ in 0..2 + self.below(3) {
            word += self.pick(BEGIN);
            word += self.pick(MIDDLE);
            word += self.pick(END);
        }
        match self.below(8) {
            0 => format!("{word}{}", self.below(1_000)),
            1 => format!(
                "{word}-{}",
                self.pick(&["ads", "online", "shop", "track", "24", "cdn"])
            ),
            _ => word,
        }
    }

    /// A name as people register it.
    fn registered(&mut self) -> String {
        const TOP: &[&str] = &[
            "com", "com", "com", "com", "net", "org", "info", "ru", "de", "xyz", "top", "io",
            "co.uk", "com.br", "online", "club",
        ];
        format!("{}.{}", self.word(), self.pick(TOP))
    }

    /// A name as block lists hold them: most of two labels, many of three, some deeper.
    fn name(&mut self) -> String {
        let mut name = self.registered();
        let deeper = match self.below(100) {
            0..60 => 0,
            60..95 => 1,
            _ => 2,
        };
        for _ in 0..deeper {
            let label = match self.below(3) {
                0 => self
                    .pick(&["www", "ads", "track", "cdn", "metrics", "m"])
                    .to_owned(),
                _ => self.word(),
            };
            name = format!("{label}.{name}");
        }
        name
    }

    /// What a client asks for: a host below a registered name, of two to five labels.
    fn question(&mut self) -> String {
        let host = self.pick(&["www.", "www.", "", "", "api.", "static.cdn.", "i0."]);
        format!("{host}{}", self.registered())
    }
}

/// A list and what is asked of it.
struct Sample {
    what: String,
    names: Vec<String>,
    hits: Vec<String>,
    misses: Vec<String>,
}

impl Sample {
    fn new(what: impl Into<String>, names: Vec<String>) -> anyhow::Result<Self> {
        let mut random = Random(7);
        let all: HashSet<&str> = names.iter().map(String::as_str).collect();
        let hits = (0..QUESTIONS).map(|place| {
            let name = &names[random.below(names.len())];
            if place % 2 == 0 {
                format!("www.{name}")
            } else {
                name.clone()
            }
        });
        let hits = hits.collect();
        let mut misses = Vec::with_capacity(QUESTIONS);
        for _ in 0..100 * QUESTIONS {
            let name = random.question();
            if misses.len() < QUESTIONS && !suffix_in(&name, |suffix| all.contains(suffix)) {
                misses.push(name);
            }
        }
        ensure!(
            misses.len() == QUESTIONS,
            "the list holds nearly everything"
        );
        Ok(Self {
            what: what.into(),
            names,
            hits,
            misses,
        })
    }

    fn generated(count: usize) -> anyhow::Result<Self> {
        let mut random = Random(1);
        let mut names = HashSet::with_capacity(count);
        while names.len() < count {
            names.insert(random.name());
        }
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        Self::new(format!("{count} names"), names)
    }
}

/// Whether a suffix of the name, the name itself too, is wanted.
fn suffix_in(name: &str, mut wanted: impl FnMut(&str) -> bool) -> bool {
    let mut rest = name;
    loop {
        if wanted(rest) {
            return true;
        }
        match rest.split_once('.') {
            Some((_, above)) => rest = above,
            None => return false,
        }
    }
}

/// The names in a hash set, and the bytes that it asks the allocator for.
fn hash_set(names: &[String]) -> (HashSet<String>, usize) {
    let mut set = HashSet::with_capacity(names.len());
    set.extend(names.iter().cloned());
    // hashbrown: a power of two of buckets, at most 7/8 of them full, and a control byte for each.
    let buckets = (set.capacity() * 8 / 7).next_power_of_two();
    let texts: usize = names.iter().map(String::len).sum();
    (set, buckets * (size_of::<String>() + 1) + texts)
}

/// The names from right to left in an automaton.
fn automaton(names: &[String]) -> anyhow::Result<fst::Set<Vec<u8>>> {
    let mut reversed: Vec<Vec<u8>> = names
        .iter()
        .map(|name| name.bytes().rev().collect())
        .collect();
    reversed.sort_unstable();
    fst::Set::from_iter(reversed).context("the automaton cannot be built")
}

/// Whether the automaton accepts a suffix that begins at a label.
fn walk(set: &fst::raw::Fst<Vec<u8>>, name: &[u8]) -> bool {
    let mut node = set.root();
    for (place, &byte) in name.iter().enumerate().rev() {
        let Some(transition) = node.find_input(byte) else {
            return false;
        };
        node = set.node(node.transition_addr(transition));
        if node.is_final() && (place == 0 || name[place - 1] == b'.') {
            return true;
        }
    }
    false
}

fn build(names: &[String]) -> anyhow::Result<NameSet> {
    let source = SourceId::new(0).context("there is a first source")?;
    let mut builder = NameSetBuilder::new(SEED);
    for name in names {
        builder.add(&Pattern::new(name, Reach::Both)?, source)?;
    }
    Ok(builder.build())
}

/// Nanoseconds a question; each has to be answered as `wanted`.
fn ask(
    questions: &[String],
    wanted: bool,
    mut listed: impl FnMut(&str) -> bool,
) -> anyhow::Result<f64> {
    let (right, elapsed) = timed(|| {
        questions
            .iter()
            .filter(|name| listed(name) == wanted)
            .count()
    });
    ensure!(
        right == questions.len(),
        "{} questions were answered wrongly",
        questions.len() - right
    );
    Ok(elapsed.as_nanos() as f64 / questions.len() as f64)
}

/// The list of one sample in all three forms, measured in turn.
fn measure(sample: &Sample, is_judged: bool) -> anyhow::Result<Vec<Figure>> {
    let (ours, building) = timed(|| build(&sample.names));
    let ours = ours?;
    let (strings, string_bytes) = hash_set(&sample.names);
    let automaton = automaton(&sample.names)?;
    let count = ours.len() as f64;
    println!(
        "\n{}, {} without those below others, built in {:.2} s; medians of {MANY} turns",
        sample.what,
        ours.len(),
        building.as_secs_f64()
    );
    println!(
        "{:>10}  {:>8}  {:>8}  {:>8}",
        "", "B/name", "ns/hit", "ns/miss"
    );
    let ask_ours = |questions: &[String], wanted| {
        ask(questions, wanted, |name| ours.contains(name.as_bytes()))
    };
    let ask_strings = |questions: &[String], wanted| {
        ask(questions, wanted, |name| {
            suffix_in(name, |suffix| strings.contains(suffix))
        })
    };
    let ask_automaton = |questions: &[String], wanted| {
        ask(questions, wanted, |name| {
            walk(automaton.as_fst(), name.as_bytes())
        })
    };
    let [hit, miss, their_hit, their_miss, fst_hit, fst_miss] = alternate(MANY, |arm| match arm {
        0 => ask_ours(&sample.hits, true),
        1 => ask_ours(&sample.misses, false),
        2 => ask_strings(&sample.hits, true),
        3 => ask_strings(&sample.misses, false),
        4 => ask_automaton(&sample.hits, true),
        _ => ask_automaton(&sample.misses, false),
    })?
    .map(median);
    let bytes = ours.memory() as f64 / count;
    let all = sample.names.len() as f64;
    for (who, bytes, hit, miss) in [
        ("ours", bytes, hit, miss),
        ("HashSet", string_bytes as f64 / all, their_hit, their_miss),
        (
            "fst",
            automaton.as_fst().size() as f64 / all,
            fst_hit,
            fst_miss,
        ),
    ] {
        println!("{who:>10}  {bytes:>8.2}  {hit:>8.1}  {miss:>8.1}");
    }
    let target = |most| {
        if is_judged {
            Target::Below(most)
        } else {
            Target::Open
        }
    };
    let what = &sample.what;
    Ok(vec![
        Figure::new(
            format!("names: memory a name, {what}"),
            bytes,
            "B",
            target(MOST_BYTES),
        ),
        Figure::new(
            format!("names: a miss, {what}"),
            miss,
            "ns",
            target(MOST_NANOSECONDS),
        ),
        Figure::new(
            format!("names: a miss beside a HashSet of strings, {what}"),
            miss / their_miss,
            "×",
            Target::Open,
        ),
        Figure::new(
            format!("names: a miss beside an fst, {what}"),
            miss / fst_miss,
            "×",
            Target::Open,
        ),
        Figure::new(
            format!("names: time to build, {what}"),
            building.as_secs_f64(),
            "s",
            target(MOST_SECONDS),
        ),
    ])
}

pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in SIZES {
        figures.extend(measure(&Sample::generated(count)?, true)?);
    }
    for file in ["107_gambling.list", "mining_hosts.txt"] {
        let path = crate::shared_data()
            .join("lists/ntop+nDPI/lists")
            .join(file);
        match std::fs::read_to_string(&path) {
            Ok(text) => figures.extend(measure(&Sample::new(file, names_of(&text))?, false)?),
            Err(why) => println!("\nSKIPPED: {}: {why}", path.display()),
        }
    }
    Ok(figures)
}

/// The first word of each line that is no comment, once.
fn names_of(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    let names: BTreeSet<String> = words.map(str::to_lowercase).collect();
    names.into_iter().collect()
}
