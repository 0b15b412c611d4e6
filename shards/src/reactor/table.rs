//! What is in flight: a table whose keys go through the kernel and come back.
//!
//! A key names a slot and the generation of its tenant. A completion that comes late, or twice, or
//! from a kernel that is wrong, finds nothing instead of somebody else's operation.

/// Names an entry of a [`Table`], as the 64 bits that io_uring carries along (`user_data`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Indexes from here on are never handed out: drivers use them for completions of their own.
    pub(crate) const RESERVED: u32 = u32::MAX - 15;

    /// One bit is left to drivers, for marks of their own: the highest of [`to_bits`](Self::to_bits).
    const GENERATIONS: u32 = u32::MAX >> 1;

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }

    /// A key that no table hands out, of a driver's own.
    pub(crate) const fn reserved(nth: u32) -> Self {
        Self {
            index: Self::RESERVED + nth,
            generation: 0,
        }
    }
}

/// Entries by key. Slots are used again, the last freed first, while it is still in the cache.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Enters `entry`.
    ///
    /// # Panics
    ///
    /// With four billion entries: memory ends long before.
    pub(crate) fn insert(&mut self, entry: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.slots.len() as u32;
            assert!(index < Key::RESERVED, "the table of operations is full");
            self.slots.push(Slot {
                generation: 0,
                entry: None,
            });
            index
        });
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        Key {
            index,
            generation: slot.generation,
        }
    }

    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    /// Takes an entry out. Its key finds nothing from here on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = (slot.generation + 1) & Key::GENERATIONS;
        self.free.push(key.index);
        Some(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all entries.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            slot.entry.as_ref().map(|_| Key {
                index,
                generation: slot.generation,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_former_tenant_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert('a');
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b');
        assert_eq!(first.index, second.index, "the slot is used again");
        assert_eq!(table.find(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.find(second), Some(&'b'));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn keys_survive_the_way_through_the_kernel() {
        let mut table = Table::new();
        for _ in 0..3 {
            let key = table.insert(());
            table.remove(key);
        }
        let key = table.insert(());
        assert_eq!(Key::from_bits(key.to_bits()), key);
        assert_eq!(table.keys().collect::<Vec<_>>(), [key]);
    }

    #[test]
    fn bits_of_the_drivers_own_find_nothing() {
        let mut table = Table::new();
        table.insert(());
        assert_eq!(table.remove(Key::reserved(0)), None);
        assert_eq!(table.remove(Key::from_bits(u64::MAX)), None);
    }
}
