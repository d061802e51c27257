//! Slots that are named by index and generation, so that an old name never reaches a new tenant.

use std::fmt;

/// The name of a slot's tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId {
    index: u32,
    generation: u32,
}

impl SlotId {
    /// Names nothing, ever: a slab would have to hold 2³²−1 tenants to use this index.
    pub(crate) const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, tenant: T) -> SlotId {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.tenant = Some(tenant);
            return SlotId { index, generation: slot.generation };
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, tenant: Some(tenant) });
        SlotId { index, generation: 0 }
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&T> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation == id.generation { slot.tenant.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.tenant.as_mut() } else { None }
    }

    /// Gives the tenant out, if it is still there.
    pub(super) fn take(&mut self, id: SlotId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let tenant = slot.tenant.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(tenant)
    }

    /// Drops the tenant where it is, if it is still there.
    pub(super) fn discard(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id.index as usize)
            && slot.generation == id.generation
            && slot.tenant.is_some()
        {
            slot.tenant = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.index);
        }
    }

    pub(super) fn ids(&self) -> Vec<SlotId> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.tenant.is_some());
        taken.map(|(index, slot)| SlotId { index: index as u32, generation: slot.generation }).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_does_not_reach_the_new_tenant() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        slab.discard(first);
        let second = slab.insert("second");
        slab.discard(first);
        assert_eq!(slab.get(first), None);
        assert_eq!((slab.get(second), slab.len()), (Some(&"second"), 1));
        assert_eq!(slab.ids(), [second]);
        assert_eq!((slab.take(first), slab.take(second), slab.take(second)), (None, Some("second"), None));
        let third = slab.insert("third");
        assert_eq!((slab.get(second), slab.get(third), slab.len()), (None, Some(&"third"), 1));
        assert_eq!(slab.get(SlotId::NONE), None);
    }
}
