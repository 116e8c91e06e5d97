//! Numbers to things: 12 bits of loop, 28 of generation, 24 of slot.
//!
//! A slot's generation grows each time it is freed, so a stale number finds nothing. Generations begin at 1, so 0 is
//! never a number. The table grows by chunks, so it never moves what it holds.

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 28;
const MAX_GENERATION: u32 = (1 << GENERATION_BITS) - 1;
const CHUNK: usize = 256;

/// The largest index of a loop.
pub(super) const MAX_LOOP: usize = (1 << (64 - SLOT_BITS - GENERATION_BITS)) - 1;
/// Added to the slots of listeners, so that their numbers are never a connection's.
pub(super) const LISTENER_SLOTS: u32 = 1 << (SLOT_BITS - 1);
/// How many connections one loop can hold.
const MAX_SLOTS: usize = 1 << (SLOT_BITS - 1);

/// The loop that made a number.
#[inline]
pub(super) fn loop_index(id: u64) -> u16 {
    (id >> (SLOT_BITS + GENERATION_BITS)) as u16
}

/// The number of the n-th timer of a loop: the loop's bits, then a count.
pub(super) fn timer_id(loop_index: u16, count: u64) -> u64 {
    (u64::from(loop_index) << (SLOT_BITS + GENERATION_BITS)) | count
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    /// What was found out of the value holds as long as nobody has had it to change it: see [`Registry::mark`].
    is_marked: bool,
    value: Option<T>,
}

/// `FIRST_SLOT` is added to the slots in numbers.
#[derive(Debug)]
pub(super) struct Registry<T, const FIRST_SLOT: u32 = 0> {
    chunks: Vec<Box<[Entry<T>; CHUNK]>>,
    /// Slots that were ever used.
    used: u32,
    free: Vec<u32>,
    len: usize,
    /// The index of the loop, where it stands before the slot's bits are added.
    loop_bits: u64,
    first_generation: u32,
}

impl<T, const FIRST_SLOT: u32> Registry<T, FIRST_SLOT> {
    pub(super) fn new(loop_index: u16, first_generation: u32) -> Self {
        let loop_bits = u64::from(loop_index) << GENERATION_BITS;
        Self { chunks: Vec::new(), used: 0, free: Vec::new(), len: 0, loop_bits, first_generation }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a free slot for `value`; hands it back when the table is full.
    pub(super) fn insert(&mut self, value: T) -> Result<u32, T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                if self.used as usize == self.chunks.len() * CHUNK {
                    if self.used as usize == MAX_SLOTS {
                        return Err(value);
                    }
                    let generation = self.first_generation;
                    self.chunks.push(Box::new(std::array::from_fn(|_| Entry {
                        generation,
                        is_marked: false,
                        value: None,
                    })));
                }
                self.used += 1;
                self.used - 1
            }
        };
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].value = Some(value);
        self.len += 1;
        Ok(slot)
    }

    #[inline]
    fn entry(&self, slot: u32) -> Option<&Entry<T>> {
        Some(&self.chunks.get(slot as usize / CHUNK)?[slot as usize % CHUNK])
    }

    #[inline]
    fn entry_keeping_mark(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        Some(&mut self.chunks.get_mut(slot as usize / CHUNK)?[slot as usize % CHUNK])
    }

    #[inline]
    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        let entry = self.entry_keeping_mark(slot)?;
        entry.is_marked = false;
        Some(entry)
    }

    /// Marks what is in a slot: something was found out of it, that is to hold for as long as it is marked.
    ///
    /// Whoever takes it to change it takes the mark away; but for the two below, which must not change what the mark
    /// stands for.
    pub(super) fn mark(&mut self, slot: u32) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.is_marked = true;
        }
    }

    /// What is in a slot, and its number, if it is marked; it stays so.
    #[inline]
    pub(super) fn get_marked(&mut self, slot: u32) -> Option<(u64, &mut T)> {
        let loop_bits = self.loop_bits;
        let entry = self.entry_keeping_mark(slot).filter(|entry| entry.is_marked)?;
        Some((compose(loop_bits, entry.generation, slot + FIRST_SLOT), entry.value.as_mut()?))
    }

    /// What a number means and the slot it is in, if the number is not stale; a mark stays.
    #[inline]
    pub(super) fn find_keeping_mark(&mut self, id: u64) -> Option<(u32, &mut T)> {
        let slot = self.slot_bits(id);
        let loop_bits = self.loop_bits;
        let entry = self.entry_keeping_mark(slot).filter(|entry| is_of(id, loop_bits, entry.generation))?;
        Some((slot, entry.value.as_mut()?))
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.entry(slot)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entry_mut(slot)?.value.as_mut()
    }

    /// What is in a slot, and its number.
    #[inline]
    pub(super) fn get_with_id(&mut self, slot: u32) -> Option<(u64, &mut T)> {
        let loop_bits = self.loop_bits;
        let entry = self.entry_mut(slot)?;
        Some((compose(loop_bits, entry.generation, slot + FIRST_SLOT), entry.value.as_mut()?))
    }

    /// The slot a number means, if it is not stale.
    #[inline]
    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        let slot = self.slot_bits(id);
        let entry = self.entry(slot)?;
        (entry.value.is_some() && is_of(id, self.loop_bits, entry.generation)).then_some(slot)
    }

    /// What a number means and the slot it is in, if the number is not stale.
    #[inline]
    pub(super) fn find(&mut self, id: u64) -> Option<(u32, &mut T)> {
        let slot = self.slot_bits(id);
        let loop_bits = self.loop_bits;
        let entry = self.entry_mut(slot)?;
        if !is_of(id, loop_bits, entry.generation) {
            return None;
        }
        Some((slot, entry.value.as_mut()?))
    }

    #[inline]
    fn slot_bits(&self, id: u64) -> u32 {
        (id as u32 & ((1 << SLOT_BITS) - 1)).wrapping_sub(FIRST_SLOT)
    }

    /// The number of what is in a slot.
    #[inline]
    pub(super) fn id(&self, slot: u32) -> u64 {
        compose(self.loop_bits, self.entry(slot).map_or(0, |entry| entry.generation), slot + FIRST_SLOT)
    }

    /// Frees a slot; its number is stale from now on.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.entry_mut(slot)?;
        let value = entry.value.take()?;
        // A slot whose generations are used up is never used again.
        if entry.generation < MAX_GENERATION {
            entry.generation += 1;
            self.free.push(slot);
        }
        self.len -= 1;
        Some(value)
    }

    /// The slots in use.
    pub(super) fn slots(&self) -> Vec<u32> {
        let used =
            self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate().filter(|(_, entry)| entry.value.is_some());
        used.map(|(slot, _)| slot as u32).collect()
    }

    /// The first generation that no number of this table has used.
    pub(super) fn next_generation(&self) -> u32 {
        let used = self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|entry| entry.generation).max();
        let next = used.map_or(self.first_generation, |generation| generation + 1);
        if next > MAX_GENERATION { 1 } else { next }
    }
}

#[inline]
fn compose(loop_bits: u64, generation: u32, slot: u32) -> u64 {
    (loop_bits | u64::from(generation)) << SLOT_BITS | u64::from(slot)
}

/// Whether a number has this loop and this generation; its slot has led to where they stand.
#[inline]
fn is_of(id: u64, loop_bits: u64, generation: u32) -> bool {
    id >> SLOT_BITS == loop_bits | u64::from(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_number_finds_nothing() {
        let mut registry = Registry::<_>::new(3, 1);
        let slot = registry.insert("first").unwrap();
        let id = registry.id(slot);
        assert_eq!(registry.slot(id), Some(slot));
        assert_eq!(loop_index(id), 3);
        registry.remove(slot);
        assert_eq!(registry.slot(id), None);
        assert_eq!(registry.insert("second").unwrap(), slot);
        assert_eq!(registry.slot(id), None);
        assert_ne!(registry.id(slot), id);
    }

    #[test]
    fn zero_and_a_listener_number_are_never_a_connection() {
        let mut connections = Registry::<_>::new(0, 1);
        let mut listeners = Registry::<_, LISTENER_SLOTS>::new(0, 1);
        connections.insert(()).unwrap();
        let listener = listeners.insert(()).unwrap();
        assert_eq!(connections.slot(0), None);
        assert_eq!(connections.slot(listeners.id(listener)), None);
    }

    #[test]
    fn a_successor_uses_other_generations() {
        let mut registry = Registry::<_>::new(0, 1);
        let slot = registry.insert(()).unwrap();
        let id = registry.id(slot);
        let mut successor = Registry::<_>::new(0, registry.next_generation());
        successor.insert(()).unwrap();
        assert_eq!(successor.slot(id), None);
    }

    #[test]
    fn a_mark_is_taken_away_by_whoever_takes_the_value_to_change_it() {
        type Taking = fn(&mut Registry<&str>, u32, u64);
        let taken: [Taking; 4] = [
            |registry, slot, _| assert!(registry.get_mut(slot).is_some()),
            |registry, slot, _| assert!(registry.get_with_id(slot).is_some()),
            |registry, _, id| assert!(registry.find(id).is_some()),
            |registry, slot, _| {
                registry.remove(slot);
                assert_eq!(registry.insert("another"), Ok(slot));
            },
        ];
        let mut registry = Registry::<_>::new(0, 1);
        let slot = registry.insert("first").unwrap();
        for take in taken {
            let id = registry.id(slot);
            assert!(registry.get_marked(slot).is_none());
            registry.mark(slot);
            assert_eq!(registry.find_keeping_mark(id).map(|(slot, _)| slot), Some(slot));
            assert!(registry.get(slot).is_some() && registry.slot(id).is_some());
            assert_eq!(registry.get_marked(slot).map(|(id, _)| id), Some(id));
            take(&mut registry, slot, id);
            assert!(registry.get_marked(slot).is_none());
        }
    }

    #[test]
    fn the_table_grows_by_chunks_and_reuses_slots() {
        let mut registry = Registry::<_>::new(0, 1);
        for n in 0..1000 {
            assert_eq!(registry.insert(n).unwrap(), n);
        }
        assert_eq!(registry.remove(500), Some(500));
        assert_eq!(registry.len(), 999);
        assert_eq!(registry.slots().len(), 999);
        assert_eq!(registry.insert(7).unwrap(), 500);
    }
}
