//! The names of `[dns]`: those that the policy writes, and those of its lists.

use super::Loader;
use super::keeper::{Entries, Keeper, ListKind};
use super::lists::{MOST_LIST_FILES, Wanted};
use crate::dns::DnsFilter;
use crate::names::{NameEntries, NameFilter, NameFilterBuilder, NameSetBuilder, Source, TooMany};
use crate::read::{DnsDraft, NameList};

/// Entries of the policy itself whose places are kept one by one.
const MOST_PLACES: usize = 100;

impl Loader {
    /// The section in full. What has errors is reported and left out.
    pub(super) fn dns(&mut self, draft: DnsDraft, keeper: &mut dyn Keeper) -> DnsFilter {
        let mut builder = NameFilterBuilder::new(self.seed);
        let mut outcome = self.written_names(&mut builder, &draft);
        let mut files_left = MOST_LIST_FILES;
        for list in &draft.lists {
            if outcome.is_ok() {
                outcome = self.name_list(&mut builder, list, &mut files_left, keeper);
            }
            if outcome.is_err() {
                let message = "the lists of names hold too many".to_owned();
                self.report
                    .error(list.span, "too-many", message)
                    .expected(format!("at most {} names", NameSetBuilder::MOST));
                break;
            }
        }
        // A policy with errors is not used, and building is most of the work.
        let names = match self.report.has_errors() {
            true => NameFilter::default(),
            false => builder.build(),
        };
        DnsFilter {
            names: names.into(),
            answer: draft.answer,
            ports: draft.ports,
            ttl: draft.ttl,
            log: draft.log,
        }
    }

    fn written_names(
        &mut self,
        builder: &mut NameFilterBuilder,
        draft: &DnsDraft,
    ) -> Result<(), TooMany> {
        let written = draft.allow.iter().zip(std::iter::repeat(true));
        let written = written.chain(draft.block.iter().zip(std::iter::repeat(false)));
        let mut unknown = None;
        for (place, (written, is_allow)) in written.enumerate() {
            let source = match unknown {
                Some(source) => source,
                None if place < MOST_PLACES => builder.source(written.source.clone()),
                None => *unknown.insert(builder.source(Source::Unknown)),
            };
            if is_allow {
                builder.allow(&written.pattern, source)?;
            } else {
                builder.block(&written.pattern, source)?;
            }
        }
        Ok(())
    }

    /// Adds a list, and says how many files may still be read.
    fn name_list(
        &mut self,
        builder: &mut NameFilterBuilder,
        list: &NameList,
        files_left: &mut usize,
        keeper: &mut dyn Keeper,
    ) -> Result<(), TooMany> {
        let path = self.report.base(list.span.file).join(&list.path);
        let key = if list.is_allow {
            "allow_lists"
        } else {
            "lists"
        };
        let mut wanted = Wanted {
            room: builder.room(),
            files_left: *files_left,
            ..Wanted::new(ListKind::Names, key, path, list.span)
        };
        let mut outcome = Ok(());
        self.read_list(&mut wanted, keeper, &mut |path, entries| {
            if let (Entries::Names(names), Ok(())) = (entries, &outcome) {
                let source = Source::List(path.display().to_string());
                outcome = add(builder, &names, source, list.is_allow);
            }
        });
        *files_left = wanted.files_left;
        outcome
    }
}

fn add(
    builder: &mut NameFilterBuilder,
    names: &NameEntries,
    source: Source,
    is_allow: bool,
) -> Result<(), TooMany> {
    let source = builder.source(source);
    for (pattern, is_exception) in names.iter() {
        if is_allow || is_exception {
            builder.allow(&pattern, source)?;
        } else {
            builder.block(&pattern, source)?;
        }
    }
    Ok(())
}
