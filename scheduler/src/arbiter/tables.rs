//! Bytes of tables on devices, by tenant, as they have been told.
//!
//! Three sums are kept beside the numbers, for each decision asks for them: what a tenant has on all devices, what
//! stays to it of that if all goes that has been asked, and what all tenants have on a device. [`Tables::put`] alone
//! writes a number, and the sums with it; [`Tables::check`] adds them up anew. Sums are wider than numbers, so whatever
//! is told, what is taken off later is what was put in.

use crate::Nanos;
use crate::pool::Unit;

/// Whose tables are on which device: by device and tenant. Sums are kept, for each decision asks for them.
#[derive(Debug)]
pub(super) struct Tables {
    slots: usize,
    devices: usize,
    /// The set of devices whose memory is counted. Of that a part is promised, and there it is kept.
    counted: u64,
    /// What is there.
    bytes: Vec<u64>,
    /// What of it may go by an order that is open.
    asked: Vec<u64>,
    /// For how long their tenant is still to have the device since some of them came, and until when they wait for it.
    unserved: Vec<(Nanos, Nanos)>,
    /// By slot.
    holdings: Vec<Holding>,
    /// By device: what all have there.
    used: Vec<u128>,
}

/// What a tenant has on devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Holding {
    /// On all of them.
    bytes: u128,
    /// On those whose memory is counted, even if all goes that has been asked.
    unasked: u128,
    /// The set of devices on which it has any.
    on: u64,
}

impl Tables {
    pub(super) fn new(slots: usize, devices: &[Unit]) -> Tables {
        let (all, count) = (slots * devices.len(), devices.len());
        let counted = devices.iter().enumerate().filter(|(_, it)| it.is_counted());
        Tables {
            slots,
            devices: count,
            counted: counted.fold(0, |set, (device, _)| set | 1 << device),
            bytes: vec![0; all],
            asked: vec![0; all],
            unserved: vec![(Nanos::ZERO, Nanos::ZERO); all],
            holdings: vec![Holding::default(); slots],
            used: vec![0; count],
        }
    }

    fn at(&self, slot: usize, device: usize) -> usize {
        device * self.slots + slot
    }

    /// So much is there now, and so much of it may go.
    fn put(&mut self, slot: usize, device: usize, bytes: u64, asked: u64) {
        let at = self.at(slot, device);
        let stays = |bytes: u64, asked: u64| u128::from(bytes.saturating_sub(asked));
        let (before, stayed) = (self.bytes[at], stays(self.bytes[at], self.asked[at]));
        (self.bytes[at], self.asked[at]) = (bytes, asked);
        let holding = &mut self.holdings[slot];
        holding.bytes = holding.bytes - u128::from(before) + u128::from(bytes);
        if self.counted >> device & 1 == 1 {
            holding.unasked = holding.unasked - stayed + stays(bytes, asked);
        }
        holding.on = holding.on & !(1 << device) | u64::from(bytes > 0) << device;
        let used = &mut self.used[device];
        *used = *used - u128::from(before) + u128::from(bytes);
    }

    /// Takes note of what is there. What has come is to serve for so long, and waits for that until then.
    pub(super) fn set(&mut self, slot: usize, device: usize, bytes: u64, unserved: (Nanos, Nanos)) {
        let at = self.at(slot, device);
        if bytes > self.bytes[at] {
            self.unserved[at] = unserved;
        }
        self.put(slot, device, bytes, self.asked[at]);
    }

    /// A tenant has had a device for so long.
    pub(super) fn serve(&mut self, slot: usize, device: usize, span: Nanos) {
        let at = self.at(slot, device);
        self.unserved[at].0 = self.unserved[at].0.since(span);
    }

    /// Until when they wait to serve, if they have not.
    pub(super) fn unserved(&self, slot: usize, device: usize) -> Option<Nanos> {
        let (left, until) = self.unserved[self.at(slot, device)];
        (left > Nanos::ZERO).then_some(until)
    }

    pub(super) fn reserve(&mut self, slot: usize, device: usize, bytes: u64) {
        self.put(slot, device, self.on(slot, device), bytes);
    }

    /// An order is closed.
    pub(super) fn release(&mut self, device: usize) {
        for slot in 0..self.slots {
            if self.asked[self.at(slot, device)] > 0 {
                self.reserve(slot, device, 0);
            }
        }
    }

    /// A device is lost, and all that was there.
    pub(super) fn lose(&mut self, device: usize) {
        for slot in 0..self.slots {
            self.clear(slot, device);
        }
    }

    pub(super) fn forget(&mut self, slot: usize) {
        for device in 0..self.devices {
            self.clear(slot, device);
        }
    }

    fn clear(&mut self, slot: usize, device: usize) {
        self.put(slot, device, 0, 0);
        let at = self.at(slot, device);
        self.unserved[at] = (Nanos::ZERO, Nanos::ZERO);
    }

    pub(super) fn on(&self, slot: usize, device: usize) -> u64 {
        self.bytes[self.at(slot, device)]
    }

    /// What a tenant has on all devices.
    pub(super) fn held(&self, slot: usize) -> u64 {
        clamped(self.holdings[slot].bytes)
    }

    /// What a tenant has on all devices whose memory is counted even if all goes that has been asked.
    pub(super) fn unasked(&self, slot: usize) -> u64 {
        clamped(self.holdings[slot].unasked)
    }

    /// What all have on a device.
    pub(super) fn used(&self, device: usize) -> u64 {
        clamped(self.used[device])
    }

    /// The set of devices that hold tables of a tenant.
    pub(super) fn devices(&self, slot: usize) -> u64 {
        self.holdings[slot].on
    }

    /// Checks the sums; the text says which is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let row =
            |slot: usize| (0..self.devices).map(move |device| (device, self.at(slot, device)));
        for (slot, kept) in self.holdings.iter().enumerate() {
            let mut holding = Holding::default();
            for (device, at) in row(slot) {
                holding.bytes += u128::from(self.bytes[at]);
                if self.counted >> device & 1 == 1 {
                    holding.unasked += u128::from(self.bytes[at].saturating_sub(self.asked[at]));
                }
                holding.on |= u64::from(self.bytes[at] > 0) << device;
            }
            if holding != *kept {
                return Err(format!(
                    "slot {slot} has {holding:?} of tables, kept is {kept:?}"
                ));
            }
        }
        for (device, &kept) in self.used.iter().enumerate() {
            let all = (0..self.slots).map(|slot| u128::from(self.on(slot, device)));
            let used: u128 = all.sum();
            if used != kept {
                return Err(format!(
                    "{used} bytes are used on device {device}, kept is {kept}"
                ));
            }
        }
        Ok(())
    }
}

fn clamped(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
