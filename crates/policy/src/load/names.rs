//! The lists of `[dns]`: files, and folders of files.

use std::path::{Path, PathBuf};

use super::lists::{list_files, tell_of_bad_lines};
use super::{Loader, MOST_LIST_BYTES, Stamp, Unreadable, read_bytes};
use crate::diagnostic::Severity;
use crate::dns::DnsFilter;
use crate::names::list::{self, Tally};
use crate::names::{NameFilter, NameFilterBuilder, NameSetBuilder, Source, TooMany};
use crate::plan::Position;
use crate::read::{DnsDraft, NameList};
use crate::tree::Span;

/// Most list files of a policy.
const MOST_LISTS: usize = 1_000;
/// Entries of the policy itself whose places are kept one by one.
const MOST_PLACES: usize = 100;

impl Loader {
    /// The section in full. What has errors is reported and left out.
    pub(super) fn dns(&mut self, draft: DnsDraft) -> DnsFilter {
        let mut builder = NameFilterBuilder::new(self.seed);
        let mut is_full = self.written_names(&mut builder, &draft).is_err();
        for (path, wanted) in self.name_lists(&draft.lists) {
            is_full = is_full || self.name_list(&mut builder, &path, &wanted).is_err();
            if is_full {
                let message = "the lists of names hold too many".to_owned();
                self.report
                    .error(wanted.span, "too-many", message)
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

    /// The files that the paths name; those of a folder in the order of their names, hidden ones left alone.
    fn name_lists(&mut self, lists: &[NameList]) -> Vec<(PathBuf, NameList)> {
        let mut files = Vec::new();
        for list in lists {
            let path = self.report.base(list.span.file).join(&list.path);
            if !path.is_dir() {
                files.push((path, list.clone()));
                continue;
            }
            self.folders.push(path.clone());
            self.stamp(&path, Stamp::of(&path));
            match list_files(&path) {
                Ok(found) if found.is_empty() => {
                    let message = format!("the folder {} holds no lists", path.display());
                    self.report.warning(list.span, "empty-include", message);
                }
                Ok(found) => files.extend(found.into_iter().map(|path| (path, list.clone()))),
                Err(error) => Unreadable::from(error).tell(&path, list.span, &mut self.report),
            }
        }
        if let Some((_, list)) = files.get(MOST_LISTS) {
            let message = format!("[dns] names {} lists", files.len());
            self.report
                .error(list.span, "too-many", message)
                .expected(format!("at most {MOST_LISTS} files"));
            files.truncate(MOST_LISTS);
        }
        files
    }

    fn name_list(
        &mut self,
        builder: &mut NameFilterBuilder,
        path: &Path,
        wanted: &NameList,
    ) -> Result<(), TooMany> {
        let path = path.to_owned();
        if !self.files.contains(&path) {
            self.files.push(path.clone());
        }
        let bytes = match read_bytes(&path, MOST_LIST_BYTES) {
            Ok((bytes, stamp)) => {
                self.stamp(&path, Some(stamp));
                bytes
            }
            Err(unreadable) => {
                self.stamp(&path, None);
                unreadable.tell(&path, wanted.span, &mut self.report);
                return Ok(());
            }
        };
        let source = builder.source(Source::List(path.display().to_string()));
        let (mut count, mut result) = (0, Ok(()));
        let tally = list::read(&bytes, |listed| {
            count += 1;
            result = if wanted.is_allow || listed.is_exception {
                builder.allow(&listed.pattern, source)
            } else {
                builder.block(&listed.pattern, source)
            };
            result.is_ok()
        });
        self.tell_of_names(&tally, count == 0, &path, wanted.span);
        result
    }

    fn tell_of_names(&mut self, tally: &Tally, is_empty: bool, path: &Path, near: Span) {
        let file = path.display().to_string();
        if tally.bad_count > 0 {
            let nothing = is_empty.then_some("no line holds a name");
            tell_of_bad_lines(
                &tally.bad,
                tally.bad_count,
                nothing,
                path,
                near,
                &mut self.report,
            );
        } else if is_empty {
            let message = match tally.skipped {
                0 => "the list is empty".to_owned(),
                skipped => format!("the list holds no name: its {skipped} rules are about pages"),
            };
            let place = Position {
                file,
                line: 1,
                column: 1,
            };
            self.report
                .add(near, Severity::Warning, "empty-list", message, place);
        }
    }
}
