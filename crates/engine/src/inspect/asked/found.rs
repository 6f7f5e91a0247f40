//! The hosts that were found in a segment.

use std::ops::ControlFlow;

use policy::HostField;

use super::{Asked, doubtful};

/// Most readings that the hosts of one segment may have: each takes a look at the rules, and a client has one.
const READINGS: usize = 64;

/// In the order in which they stand.
#[derive(Debug, Default)]
pub(super) struct FoundHosts {
    all: Vec<Asked>,
    /// Where the doubtful ones are: at most [`READINGS`], each once.
    readings: Vec<usize>,
}

impl FoundHosts {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn into_all(self) -> Vec<Asked> {
        self.all
    }

    /// On a break, there are too many readings.
    pub(super) fn add(&mut self, asked: Asked) -> ControlFlow<()> {
        if asked.is_doubtful {
            if self.is_known(asked.field, &asked.host, asked.is_path) {
                return ControlFlow::Continue(());
            }
            if self.readings.len() >= READINGS {
                return ControlFlow::Break(());
            }
            self.readings.push(self.all.len());
        }
        self.all.push(asked);
        ControlFlow::Continue(())
    }

    /// What servers may read in a request. On a break, there are too many readings.
    pub(super) fn doubt(&mut self, host: &[u8], is_path: bool) -> ControlFlow<()> {
        // Mostly it is: nothing is allocated then.
        if self.is_known(HostField::HttpHost, host, is_path) {
            return ControlFlow::Continue(());
        }
        self.add(Asked {
            is_path,
            ..doubtful(host)
        })
    }

    /// What stands as a host and in a path stands as a host.
    fn is_known(&mut self, field: HostField, host: &[u8], is_path: bool) -> bool {
        let all = &mut self.all;
        let is_same = |asked: &Asked| asked.field == field && *asked.host == *host;
        let known = (self.readings.iter()).find(|place| all.get(**place).is_some_and(is_same));
        let Some(known) = known.and_then(|place| all.get_mut(*place)) else {
            return false;
        };
        known.is_path &= is_path;
        true
    }
}
