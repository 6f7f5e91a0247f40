//! A map with a ceiling, mostly by source: when it is full, the entry of a few neighbours that matters least makes room.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Neighbours looked at when room must be made. With eight, an entry that matters more than nine tenths of the others
/// stays for hundreds of thousands of newcomers to a table of 65,536.
const CANDIDATES: usize = 8;

/// At most `ceiling` values, each under a key; that of a source where nothing else is said.
#[derive(Debug)]
pub(crate) struct Bounded<V, K = u128> {
    places: HashTable<u32>,
    entries: Vec<Entry<V, K>>,
    hasher: FixedState,
    ceiling: usize,
    /// Where the next look for room begins: a linear congruential walk, as entries beside each other have like ages.
    hand: u64,
}

#[derive(Debug)]
struct Entry<V, K> {
    key: K,
    hash: u64,
    value: V,
}

/// Where an entry was last found: it may be another's place by now, and is looked at before it is believed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place(u32);

impl<V, K: Copy + Eq + Hash> Bounded<V, K> {
    pub(crate) fn new(ceiling: u32, seed: u64) -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
            hasher: FixedState::with_seed(seed),
            ceiling: ceiling.max(1) as usize,
            hand: seed,
        }
    }

    fn find(&self, key: K, hash: u64) -> Option<usize> {
        self.places
            .find(hash, |&place| self.entries[place as usize].key == key)
            .map(|&place| place as usize)
    }

    /// The value under a key, made when there is none; `weight` says how much a value matters.
    pub(crate) fn entry(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
        weight: impl Fn(&V) -> u64,
    ) -> &mut V {
        let place = self.place(key, make, weight);
        &mut self.entries[place].value
    }

    fn place(&mut self, key: K, make: impl FnOnce() -> V, weight: impl Fn(&V) -> u64) -> usize {
        let hash = self.hasher.hash_one(key);
        match self.find(key, hash) {
            Some(place) => place,
            None => {
                if self.entries.len() >= self.ceiling {
                    self.make_room(weight);
                }
                self.entries.push(Entry {
                    key,
                    hash,
                    value: make(),
                });
                let place = self.entries.len() - 1;
                let entries = &self.entries;
                self.places
                    .insert_unique(hash, place as u32, |&place| entries[place as usize].hash);
                place
            }
        }
    }

    /// As [`Bounded::entry`], by the place where the key was found before: nothing is hashed and looked up when it is still there.
    #[inline]
    pub(crate) fn entry_near(
        &mut self,
        near: &mut Place,
        key: K,
        make: impl FnOnce() -> V,
        weight: impl Fn(&V) -> u64,
    ) -> &mut V {
        let is_there = (self.entries.get(near.0 as usize)).is_some_and(|entry| entry.key == key);
        if !is_there {
            near.0 = self.place(key, make, weight) as u32;
        }
        &mut self.entries[near.0 as usize].value
    }

    /// The value under a key that has one.
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let place = self.find(key, self.hasher.hash_one(key))?;
        Some(&mut self.entries[place].value)
    }

    /// The value under a key that has one, to look at.
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let place = self.find(key, self.hasher.hash_one(key))?;
        Some(&self.entries[place].value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    pub(crate) fn remove(&mut self, key: K) {
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.find(key, hash) {
            self.remove_at(place);
        }
    }

    fn remove_at(&mut self, place: usize) {
        self.unlink(place, place);
        self.entries.swap_remove(place);
        if place < self.entries.len() {
            // The last entry moved here.
            let moved_from = self.entries.len();
            let (hash, entries) = (self.entries[place].hash, &self.entries);
            if let Some(at) = self.places.find_mut(hash, |&at| at as usize == moved_from) {
                *at = place as u32;
            }
            debug_assert!(self.places.len() == entries.len());
        }
    }

    fn unlink(&mut self, place: usize, linked_as: usize) {
        let hash = self.entries[place].hash;
        if let Ok(link) = self.places.find_entry(hash, |&at| at as usize == linked_as) {
            link.remove();
        }
    }

    fn make_room(&mut self, weight: impl Fn(&V) -> u64) {
        let len = self.entries.len();
        // Knuth, MMIX.
        self.hand = self
            .hand
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let begin = (self.hand >> 33) as usize % len;
        let least = (begin..len)
            .chain(0..begin)
            .take(CANDIDATES)
            .min_by_key(|&place| weight(&self.entries[place].value));
        if let Some(place) = least {
            self.remove_at(place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_moves_of_others() {
        let mut map = Bounded::new(100, 3);
        for key in 0..10_000_u128 {
            *map.entry(key % 150, || 0_u64, |value| *value) += 1;
            if key % 7 == 0 {
                map.remove(key % 31);
            }
            assert!(map.len() <= 100 && map.places.len() == map.len());
        }
        for place in 0..map.entries.len() {
            let entry = &map.entries[place];
            assert_eq!(map.find(entry.key, entry.hash), Some(place));
        }
    }

    #[test]
    fn a_place_is_believed_as_long_as_its_key_is_there() {
        let mut map = Bounded::new(4, 3);
        let mut near = [Place::default(); 6];
        for round in 0..1_000_u64 {
            let key = round * 7 % 6;
            let value = map.entry_near(&mut near[key as usize], key, || key, |_| 0);
            assert_eq!(*value, key);
            assert_eq!(map.get(key), Some(&key));
            if round % 5 == 0 {
                map.remove(round * 11 % 6);
            }
        }
    }

    #[test]
    fn what_matters_stays() {
        let mut map = Bounded::new(64, 3);
        *map.entry(1_000_000, || 0_u64, |value| *value) = 50;
        for key in 0..100_000 {
            map.entry(key, || 1, |value| *value);
        }
        assert_eq!(*map.entry(1_000_000, || 0, |value| *value), 50);
    }
}
