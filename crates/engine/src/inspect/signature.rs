//! Which of many content rules could match some bytes, found in one pass over them.
//!
//! Of each pattern a few bytes are taken that must be there where it matches: the end of a text, the bytes at an offset, what a
//! regular expression begins or ends with. All of those texts are looked for together, and one look-up finds the bytes at each
//! offset. What is found is asked in full afterwards, so that nothing here can make a rule match; what has no such bytes is
//! always asked.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;
use policy::{Content, Pattern, Scope};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::sampler::{LONGEST, Sampler};

/// Bytes of a text that are looked for: enough to be rare.
const TEXT: usize = LONGEST;
/// Texts of at least so many bytes, and of less than these, are looked for apart.
const LONG: usize = 8;
const SHORT: usize = 4;
/// Fewer bytes of an expression than this are in most payloads.
const SHORTEST: usize = 2;
/// More beginnings than this are those of an expression that may begin with nearly anything.
const MOST_TEXTS: usize = 64;

/// The content rules of one list, by their place in it.
#[derive(Debug)]
pub(super) struct Signatures {
    /// Those that are always asked.
    always: Vec<u64>,
    packet: Scanner,
    stream: Scanner,
    /// What may be older than the newest bytes of a stream: expressions, whose begin may lie anywhere, and rules that ask for
    /// lengths, as they were not asked about each segment.
    whole_stream: Scanner,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    /// Of the packet itself.
    pub(super) payload: &'a [u8],
    /// The stream, where one is followed.
    pub(super) stream: Option<InOrder<'a>>,
}

/// A stream as far as it is in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct InOrder<'a> {
    pub(super) bytes: &'a [u8],
    /// How many of these were looked at before.
    pub(super) known: usize,
    /// How many before these are not held any more.
    pub(super) forgotten: usize,
}

impl<'a> InOrder<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            known: 0,
            forgotten: 0,
        }
    }
}

/// Places of rules in their list, kept between packets.
#[derive(Debug, Default)]
pub(crate) struct Places {
    bits: Vec<u64>,
    masked: Vec<u8>,
}

impl Places {
    fn set(bits: &mut [u64], place: u32) {
        if let Some(word) = bits.get_mut(place as usize / 64) {
            *word |= 1 << (place % 64);
        }
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.bits.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }
}

impl Signatures {
    pub(super) fn new(contents: &[&Content]) -> Self {
        let mut always = vec![0; contents.len().div_ceil(64)];
        let [mut packet, mut stream, mut whole_stream] = [const { Texts::new() }; 3];
        for (place, content) in (0..).zip(contents) {
            let in_stream = matches!(content.scope, Scope::Stream { .. });
            let texts = match in_stream {
                true if content.has_lengths() => &mut whole_stream,
                true => &mut stream,
                false => &mut packet,
            };
            match &content.pattern {
                Some(Pattern::Contains { bytes, .. }) => {
                    texts.add(place, &bytes[bytes.len().saturating_sub(TEXT)..]);
                }
                Some(Pattern::At {
                    offset,
                    bytes,
                    mask,
                }) => texts.add_at(place, *offset, bytes, mask),
                Some(Pattern::Regex(text)) => match necessary(text) {
                    Some(found) => {
                        let texts = if in_stream { &mut whole_stream } else { texts };
                        found.iter().for_each(|text| texts.add(place, text));
                    }
                    None => Places::set(&mut always, place),
                },
                // Not found by bytes.
                Some(Pattern::Host { .. }) => {}
                None => Places::set(&mut always, place),
            }
        }
        Self {
            packet: packet.scanner(&mut always),
            stream: stream.scanner(&mut always),
            whole_stream: whole_stream.scanner(&mut always),
            always,
        }
    }

    /// The rules that have to be asked about these bytes: all that match are among them.
    pub(super) fn find(&self, bytes: Bytes<'_>, found: &mut Places) {
        found.bits.clear();
        found.bits.extend_from_slice(&self.always);
        let payload = InOrder::new(bytes.payload);
        let stream = bytes.stream.unwrap_or(payload);
        self.packet.find(payload, found);
        self.stream.find(stream, found);
        self.whole_stream
            .find(InOrder { known: 0, ..stream }, found);
    }
}

/// Texts one of which is in whatever the expression matches.
fn necessary(expression: &str) -> Option<Vec<Vec<u8>>> {
    let mut parser = ParserBuilder::new().utf8(false).unicode(false).build();
    let hir = parser.parse(expression).ok()?;
    [ExtractKind::Prefix, ExtractKind::Suffix]
        .into_iter()
        .filter_map(|kind| texts_of(&hir, kind))
        .max_by_key(|texts| texts.iter().map(Vec::len).min())
}

fn texts_of(hir: &Hir, kind: ExtractKind) -> Option<Vec<Vec<u8>>> {
    let found = Extractor::new().kind(kind).extract(hir);
    let texts = found.literals()?.iter().map(|literal| {
        let bytes = literal.as_bytes();
        bytes[..bytes.len().min(TEXT)].to_vec()
    });
    let texts: Vec<_> = texts.collect();
    let is_telling =
        (1..=MOST_TEXTS).contains(&texts.len()) && texts.iter().all(|text| text.len() >= SHORTEST);
    is_telling.then_some(texts)
}

/// What is looked for, and for whom.
#[derive(Debug)]
struct Texts {
    anywhere: Vec<(Vec<u8>, u32)>,
    shapes: Vec<Shape>,
}

impl Texts {
    const fn new() -> Self {
        Self {
            anywhere: Vec::new(),
            shapes: Vec::new(),
        }
    }

    fn add(&mut self, place: u32, text: &[u8]) {
        self.anywhere.push((text.to_ascii_lowercase(), place));
    }

    fn add_at(&mut self, place: u32, offset: u32, bytes: &[u8], mask: &[u8]) {
        let offset = offset as usize;
        let known = self.shapes.iter_mut();
        let mut same = known.filter(|shape| shape.offset == offset && *shape.mask == *mask);
        match same.next() {
            Some(shape) => shape.places.entry(bytes.into()).or_default().push(place),
            None => self.shapes.push(Shape {
                offset,
                mask: mask.into(),
                places: HashMap::from([(bytes.into(), vec![place])]),
            }),
        }
    }

    /// Whoever cannot be looked for is `always` asked.
    fn scanner(mut self, always: &mut [u64]) -> Scanner {
        self.anywhere.sort();
        let mut places: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
        for (text, place) in self.anywhere {
            places.entry(text).or_default().push(place);
        }
        let (mut long, mut short, mut tiny) = (Vec::new(), Vec::new(), Vec::new());
        for (text, places) in places {
            match text.len() {
                LONG.. => long.push((text, places)),
                SHORT..LONG => short.push((text, places)),
                _ => tiny.push((text, places)),
            }
        }
        let (long_texts, long) = long.into_iter().unzip();
        let (short_texts, short) = short.into_iter().unzip();
        let (tiny_texts, tiny): (Vec<Vec<u8>>, Vec<Vec<u32>>) = tiny.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(tiny_texts)
            .inspect_err(|_| {
                tiny.iter()
                    .flatten()
                    .for_each(|&place| Places::set(always, place))
            });
        Scanner {
            long: Sampler::new(long_texts).map(|sampler| (sampler, long)),
            short: Sampler::new(short_texts).map(|sampler| (sampler, short)),
            tiny: automaton
                .ok()
                .filter(|_| !tiny.is_empty())
                .map(|automaton| (automaton, tiny)),
            shapes: self.shapes,
        }
    }
}

/// Patterns at one offset under one mask.
#[derive(Debug)]
struct Shape {
    offset: usize,
    mask: Box<[u8]>,
    places: HashMap<Box<[u8]>, Vec<u32>>,
}

/// Looks for all texts together. What finds texts of a kind stands with the rules of each of them.
#[derive(Debug)]
struct Scanner {
    long: Option<(Sampler<4>, Vec<Vec<u32>>)>,
    short: Option<(Sampler<3>, Vec<Vec<u32>>)>,
    tiny: Option<(AhoCorasick, Vec<Vec<u32>>)>,
    shapes: Vec<Shape>,
}

impl Scanner {
    /// Adds whose texts end behind the bytes that were looked at before.
    fn find(&self, stream: InOrder<'_>, found: &mut Places) {
        let InOrder {
            bytes,
            known,
            forgotten,
        } = stream;
        let Places { bits, masked } = found;
        let mut set = |places: &[u32]| {
            places.iter().for_each(|&place| Places::set(bits, place));
        };
        if let Some((sampler, places)) = &self.long {
            sampler.find(bytes, known, |text| set(&places[text as usize]));
        }
        if let Some((sampler, places)) = &self.short {
            sampler.find(bytes, known, |text| set(&places[text as usize]));
        }
        if let Some((automaton, places)) = &self.tiny {
            let rest = bytes.get(known.saturating_sub(SHORT)..).unwrap_or_default();
            for text in automaton.find_overlapping_iter(rest) {
                set(&places[text.pattern().as_usize()]);
            }
        }
        for shape in &self.shapes {
            let place = shape.offset.checked_sub(forgotten);
            let there = place.and_then(|at| bytes.get(at..at + shape.mask.len()));
            let Some(there) = there else {
                continue;
            };
            masked.clear();
            masked.extend(
                there
                    .iter()
                    .zip(&shape.mask)
                    .map(|(byte, mask)| byte & mask),
            );
            if let Some(places) = shape.places.get(&**masked) {
                set(places);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "inputs are constants")]
mod tests {
    use super::super::matcher::Matcher;
    use super::*;
    use proptest::prelude::*;

    /// Few letters, so that patterns are found, and found in each other.
    fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"abABx0\x00\xff".to_vec()), len)
    }

    fn pattern() -> impl Strategy<Value = Option<Pattern>> {
        let expression = prop::sample::select(vec![
            "ab+x",
            "(?i)AB0",
            "^ab",
            "a.b",
            "x$",
            "(ab|ba)+0",
            "[ab]x0",
            "(?i)abab.*x",
            "",
            "a|b",
            r"\x00\xff",
        ]);
        let at = (
            0u32..8,
            prop::collection::vec(
                (prop::sample::select(b"abx0".to_vec()), any::<bool>()),
                1..6,
            ),
        );
        prop_oneof![
            1 => Just(None),
            6 => (text(1..24), any::<bool>())
                .prop_map(|(bytes, ignore_case)| Some(Pattern::Contains { bytes, ignore_case })),
            2 => expression.prop_map(|text| Some(Pattern::Regex(text.to_owned()))),
            3 => at.prop_map(|(offset, bytes)| {
                let mask: Vec<u8> = bytes.iter().map(|&(_, wanted)| if wanted { 0xff } else { 0 }).collect();
                let bytes = bytes.iter().zip(&mask).map(|((byte, _), mask)| byte & mask).collect();
                Some(Pattern::At { offset, bytes, mask })
            }),
        ]
    }

    proptest! {
        /// Whatever a pattern matches, its rule is asked; of a stream also where most of it was asked about before.
        #[test]
        fn all_that_match_are_found(
            patterns in prop::collection::vec((pattern(), any::<bool>()), 1..80),
            bytes in text(0..120),
            known in 0usize..120,
            forgotten in 0usize..4,
            planted in any::<prop::sample::Index>(),
            at in 0usize..100,
        ) {
            let mut bytes = bytes;
            if let (Some(Pattern::Contains { bytes: text, .. }), _) = planted.get(&patterns) {
                let at = at.min(bytes.len());
                bytes.splice(at..at, text.iter().copied());
            }
            let contents: Vec<Content> = patterns
                .into_iter()
                .map(|(pattern, in_stream)| Content {
                    pattern,
                    min_len: 1,
                    max_len: None,
                    scope: if in_stream { Scope::Stream { depth: 100 } } else { Scope::Packet },
                    every_packet: false,
                })
                .collect();
            let signatures = Signatures::new(&contents.iter().collect::<Vec<_>>());
            let known = known.min(bytes.len());
            // Without `known`, a packet that is the stream.
            let held = InOrder { bytes: &bytes, known, forgotten };
            for stream in [None, Some(held)] {
                let mut found = Places::default();
                signatures.find(Bytes { payload: &bytes, stream }, &mut found);
                let found: Vec<usize> = found.iter().collect();
                prop_assert!(found.is_sorted());
                for (place, content) in contents.iter().enumerate() {
                    let Some(pattern) = &content.pattern else {
                        prop_assert!(found.contains(&place));
                        continue;
                    };
                    let (known, forgotten) = match (content.scope, stream) {
                        (Scope::Stream { .. }, Some(held)) => (held.known, held.forgotten),
                        _ => (0, 0),
                    };
                    if Matcher::new(pattern).matches(&bytes, known, forgotten) {
                        prop_assert!(found.contains(&place), "{pattern:?} of {known}");
                    }
                }
            }
        }
    }

    #[test]
    fn few_of_many_texts_are_asked() {
        let contents: Vec<Content> = (0..1_000)
            .map(|number| Content {
                pattern: Some(Pattern::Contains {
                    bytes: format!("/cgi-bin/{number:04}").into_bytes(),
                    ignore_case: false,
                }),
                min_len: 1,
                max_len: None,
                scope: Scope::Packet,
                every_packet: false,
            })
            .collect();
        let signatures = Signatures::new(&contents.iter().collect::<Vec<_>>());
        let mut found = Places::default();
        for (payload, expected) in [
            (&b"GET /cgi-bin/0707 HTTP/1.1"[..], &[707][..]),
            (b"GET /CGI-BIN/0007/cgi-bin/0999", &[7, 999]),
            (b"GET /cgi-bin/ HTTP/1.1", &[]),
            (b"", &[]),
        ] {
            let bytes = Bytes {
                payload,
                stream: None,
            };
            signatures.find(bytes, &mut found);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{payload:?}");
        }
    }
}
