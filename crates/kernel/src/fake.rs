//! A datapath that keeps everything in memory, for tests of what stands above it.
//!
//! It is transactional like the real one: an operation that fails changes nothing. It fails when it is told to, and when the
//! real one would (no plan applied, ban sets full). It looks at no packet.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use crate::datapath::{
    Applied, Apply, Counters, Datapath, DatapathError, Drift, HeldBan, OwnBan, Queues, Snapshot,
};
use crate::nft::{Context, HandUp, LOG_GROUP, Slot, compile};
use crate::tag::Cause;

/// A datapath in memory. Clones share their state, so that a test can look at what it gave away.
#[derive(Clone, Debug, Default)]
pub struct FakeDatapath(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    table: Option<Table>,
    snapshots: HashMap<String, Option<Table>>,
    /// Set by a test: what happened to the kernel behind the datapath's back.
    drift: Option<Drift>,
    counters: Counters,
    /// What the kernel banned by itself and nobody has asked for.
    own_bans: Vec<OwnBan>,
    operations: Vec<String>,
    failing: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Table {
    script: String,
    queues: Option<Queues>,
    capacity: usize,
    bans: BTreeMap<IpNet, Option<Duration>>,
}

impl FakeDatapath {
    /// One in which nothing is applied.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` operation from now fail; the next one is 1.
    pub fn fail(&self, nth: u64) {
        let mut state = self.lock();
        let at = state.operations.len() as u64 + nth;
        state.failing.push(at);
    }

    /// Lets time pass: bans run out.
    pub fn advance(&self, by: Duration) {
        if let Some(table) = &mut self.lock().table {
            table
                .bans
                .retain(|_, left| left.is_none_or(|left| left > by));
            for left in table.bans.values_mut().flatten() {
                *left -= by;
            }
        }
    }

    /// Takes everything away, as `nft flush ruleset` by a stranger does.
    pub fn flush(&self) {
        let mut state = self.lock();
        state.table = None;
        state.drift = None;
    }

    /// Lets the next check report this.
    pub fn set_drift(&self, drift: Drift) {
        self.lock().drift = Some(drift);
    }

    /// Bans as the kernel does by itself; nothing without a table.
    pub fn ban_by_itself(&self, prefix: IpNet, remaining: Option<Duration>, cause: Cause) {
        let mut state = self.lock();
        if let Some(table) = &mut state.table {
            table.bans.insert(prefix, remaining);
            let held = HeldBan { prefix, remaining };
            state.own_bans.push(OwnBan { held, cause });
        }
    }

    /// What counters shall say.
    pub fn set_counters(&self, counters: Counters) {
        self.lock().counters = counters;
    }

    /// Every operation so far, failed ones too, one word each: `apply`, `ban 192.0.2.1/32`, …
    #[must_use]
    pub fn operations(&self) -> Vec<String> {
        self.lock().operations.clone()
    }

    /// The state as text: the script in force, then the bans; empty when nothing is applied.
    #[must_use]
    pub fn dump(&self) -> String {
        let state = self.lock();
        let Some(table) = &state.table else {
            return String::new();
        };
        let mut text = table.script.clone();
        if let Some(queues) = table.queues {
            text.push_str(&format!("queues {}-{}\n", queues.first, queues.last()));
        }
        for (prefix, left) in &table.bans {
            let left = left.map_or("for good".to_owned(), |left| format!("for {left:?}"));
            text.push_str(&format!("ban {prefix} {left}\n"));
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves the state as it was: nothing is half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the operation and fails if it was told to.
    fn begin(&self, operation: String) -> Result<MutexGuard<'_, State>, DatapathError> {
        let mut state = self.lock();
        state.operations.push(operation);
        let number = state.operations.len() as u64;
        if state.failing.contains(&number) {
            return Err(DatapathError::Injected { operation: number });
        }
        Ok(state)
    }
}

impl Datapath for FakeDatapath {
    fn apply(&mut self, request: &Apply<'_>) -> Result<Applied, DatapathError> {
        let mut state = self.begin("apply".to_owned())?;
        let script = compile(
            request.plan,
            &Context {
                protected: request.protected,
                queues: request.queues,
                hand_up: HandUp::Queue,
                log_group: LOG_GROUP,
                slot: Slot::default(),
            },
        )?;
        let bans = state
            .table
            .take()
            .map(|table| table.bans)
            .unwrap_or_default();
        let expected = &script.expected;
        let applied = Applied {
            chains: expected.chains.len(),
            rules: expected.chains.values().sum(),
            elements: expected.sets.values().flatten().sum(),
            took: Duration::ZERO,
        };
        state.table = Some(Table {
            script: script.text,
            queues: request.queues,
            capacity: request.plan.ban.capacity as usize,
            bans,
        });
        state.drift = None;
        Ok(applied)
    }

    fn ban(&mut self, prefix: IpNet, remaining: Option<Duration>) -> Result<(), DatapathError> {
        let state = self.begin(format!("ban {prefix}"))?;
        put(state, &[(prefix, remaining)])
    }

    fn bans_many(&mut self, bans: &[(IpNet, Option<Duration>)]) -> Result<(), DatapathError> {
        let state = self.begin(format!("bans_many {}", bans.len()))?;
        put(state, bans)
    }

    fn unban(&mut self, prefix: IpNet) -> Result<bool, DatapathError> {
        let mut state = self.begin(format!("unban {prefix}"))?;
        let table = state.table.as_mut().ok_or(DatapathError::NotApplied)?;
        Ok(table.bans.remove(&prefix).is_some())
    }

    fn bans(&mut self) -> Result<Vec<HeldBan>, DatapathError> {
        let state = self.begin("bans".to_owned())?;
        let table = state.table.as_ref().ok_or(DatapathError::NotApplied)?;
        let held = table
            .bans
            .iter()
            .map(|(&prefix, &remaining)| HeldBan { prefix, remaining });
        Ok(held.collect())
    }

    /// No operation that is noted: it is asked for with every check.
    fn take_own_bans(&mut self) -> Result<Vec<OwnBan>, DatapathError> {
        let mut state = self.lock();
        let told = std::mem::take(&mut state.own_bans);
        let Some(table) = &state.table else {
            return Ok(Vec::new());
        };
        let stands = |ban: &OwnBan| {
            let remaining = *table.bans.get(&ban.held.prefix)?;
            let prefix = ban.held.prefix;
            let held = HeldBan { prefix, remaining };
            Some(OwnBan { held, ..*ban })
        };
        Ok(told.iter().filter_map(stands).collect())
    }

    fn counters(&mut self) -> Result<Counters, DatapathError> {
        let state = self.begin("counters".to_owned())?;
        state
            .table
            .as_ref()
            .map(|_| state.counters.clone())
            .ok_or(DatapathError::NotApplied)
    }

    fn check(&mut self) -> Result<Drift, DatapathError> {
        let mut state = self.begin("check".to_owned())?;
        let quiet = if state.table.is_some() {
            Drift::None
        } else {
            Drift::Gone
        };
        Ok(state.drift.take().unwrap_or(quiet))
    }

    fn snapshot(&mut self) -> Result<Snapshot, DatapathError> {
        let mut state = self.begin("snapshot".to_owned())?;
        let script = format!("snapshot {}", state.snapshots.len());
        let table = state.table.clone();
        state.snapshots.insert(script.clone(), table);
        Ok(Snapshot {
            before: Vec::new(),
            script,
            after: Vec::new(),
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), DatapathError> {
        let mut state = self.begin("restore".to_owned())?;
        let table = state
            .snapshots
            .get(&snapshot.script)
            .cloned()
            .ok_or_else(|| DatapathError::Refused {
                rule: None,
                message: format!("{} was not taken here", snapshot.script),
            })?;
        state.table = table;
        state.drift = None;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), DatapathError> {
        let mut state = self.begin("remove".to_owned())?;
        state.table = None;
        state.drift = None;
        Ok(())
    }
}

/// Puts bans in, all or none.
fn put(
    mut state: MutexGuard<'_, State>,
    bans: &[(IpNet, Option<Duration>)],
) -> Result<(), DatapathError> {
    let table = state.table.as_mut().ok_or(DatapathError::NotApplied)?;
    let mut after = table.bans.clone();
    after.extend(bans.iter().copied());
    if after.len() > table.capacity {
        return Err(DatapathError::BansFull);
    }
    table.bans = after;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use policy::{AddressSet, Plan};

    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn apply(fake: &mut FakeDatapath, plan: &Plan) -> Result<Applied, DatapathError> {
        let protected = AddressSet::default();
        fake.apply(&Apply {
            plan,
            protected: &protected,
            queues: None,
            goes_on: false,
        })
    }

    #[test]
    fn what_fails_changes_nothing() {
        let mut fake = FakeDatapath::new();
        assert!(matches!(
            fake.ban(prefix("192.0.2.1/32"), None),
            Err(DatapathError::NotApplied)
        ));
        let mut plan = Plan::default();
        plan.ban.capacity = 2;
        apply(&mut fake, &plan).unwrap();
        fake.ban(prefix("192.0.2.1/32"), Some(Duration::from_secs(10)))
            .unwrap();
        let before = fake.dump();
        fake.fail(2);
        assert!(fake.bans().is_ok());
        assert!(matches!(
            apply(&mut fake, &Plan::default()),
            Err(DatapathError::Injected { operation: 5 })
        ));
        let many = ["192.0.2.2/32", "192.0.2.3/32"].map(|text| (prefix(text), None));
        assert!(matches!(
            fake.bans_many(&many),
            Err(DatapathError::BansFull)
        ));
        assert_eq!(fake.dump(), before);
        assert_eq!(fake.operations()[3..], ["bans", "apply", "bans_many 2"]);
    }

    #[test]
    fn it_behaves_like_the_real_one() {
        let mut fake = FakeDatapath::new();
        let looking = fake.clone();
        assert_eq!(fake.check().unwrap(), Drift::Gone);
        let nothing = fake.snapshot().unwrap();
        apply(&mut fake, &Plan::default()).unwrap();
        fake.ban(prefix("192.0.2.1/32"), Some(Duration::from_secs(10)))
            .unwrap();
        fake.ban(prefix("192.0.2.0/24"), None).unwrap();
        looking.advance(Duration::from_secs(4));
        let left = Some(Duration::from_secs(6));
        assert_eq!(
            fake.bans().unwrap(),
            [
                HeldBan {
                    prefix: prefix("192.0.2.0/24"),
                    remaining: None
                },
                HeldBan {
                    prefix: prefix("192.0.2.1/32"),
                    remaining: left
                },
            ]
        );
        apply(&mut fake, &Plan::default()).unwrap();
        looking.advance(Duration::from_secs(6));
        assert_eq!(fake.bans().unwrap().len(), 1);
        let full = fake.snapshot().unwrap();
        assert!(fake.unban(prefix("192.0.2.0/24")).unwrap());
        assert!(!fake.unban(prefix("192.0.2.0/24")).unwrap());
        fake.restore(&full).unwrap();
        assert!(looking.dump().ends_with("ban 192.0.2.0/24 for good\n"));
        looking.flush();
        assert_eq!(fake.check().unwrap(), Drift::Gone);
        fake.restore(&full).unwrap();
        assert_eq!(fake.check().unwrap(), Drift::None);
        fake.restore(&nothing).unwrap();
        assert_eq!(looking.dump(), "");
        fake.remove().unwrap();
    }
}
