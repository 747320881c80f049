//! What all tenants ask of the matcher, and what stays to each of its tables.
//!
//! A claim for units is what a tenant wants, with its part of its class's guarantee, its value at this time of day, its
//! debt and its age. A claim for bytes goes by the value of the claim for cores, whether there is one or not. All lists
//! are by slot, with a claim for nothing where nobody is; [`Claims::fill`] writes them anew from the box as it is, and
//! nothing else does.

use super::Scene;
use super::tables::Tables;
use super::tenant::Tenant;
use crate::Nanos;
use crate::matching::dominant::{BYTES, ByteClaim, Bytes, Capacity, Demands};
use crate::matching::{Claim, Rate};
use crate::pool::{KINDS, Kind};
use crate::scenario::{CLASSES_MAX, TimeOfDay};

/// All of them.
#[derive(Debug)]
pub(super) struct Claims {
    demands: Demands,
    /// By slot: what stays to it of its tables on all devices together, by the last decision.
    keeps: Vec<u64>,
    /// A moment, and what Unix time it was then.
    wall: Option<(Nanos, Nanos)>,
}

impl Claims {
    pub(super) fn new(slots: usize) -> Claims {
        Claims {
            demands: Demands {
                units: [(); KINDS].map(|()| Vec::with_capacity(slots)),
                bytes: [(); BYTES].map(|()| vec![ByteClaim::default(); slots]),
                tables: vec![0; slots],
            },
            keeps: vec![0; slots],
            wall: None,
        }
    }

    /// It is this Unix time now.
    pub(super) fn set_clock(&mut self, now: Nanos, unix: Nanos) {
        self.wall = Some((now, unix));
    }

    /// Writes them anew.
    pub(super) fn fill(&mut self, scene: Scene<'_>, tables: &Tables) {
        let capacity = scene.floor.capacity();
        for kind in Kind::ALL {
            self.fill_units(kind, scene, capacity.units[kind.index()]);
        }
        for (slot, at) in self.demands.tables.iter_mut().enumerate() {
            *at = tables.devices(slot);
        }
        // Neither changes while the box runs.
        if capacity.bytes != [u64::MAX; BYTES] {
            self.fill_bytes(scene, &capacity);
        }
    }

    fn fill_units(&mut self, kind: Kind, scene: Scene<'_>, open: u32) {
        let Scene { policy, now, .. } = scene;
        let time = self.time_of_day(now);
        let sharers = scene.tenants.sharers(kind);
        let claims = &mut self.demands.units[kind.index()];
        claims.clear();
        if open == 0 && kind == Kind::Device {
            claims.resize(scene.tenants.slots().len(), Claim::default());
            return;
        }
        claims.extend(scene.tenants.by_slot().map(|(tenant, meter)| {
            let Some((tenant, class)) = tenant.and_then(|it| Some((it, policy.class(it.class)?)))
            else {
                return Claim::default();
            };
            let part = &tenant.parts[kind.index()];
            // Bytes go by the value of the claim for cores, whether there is one or not.
            let value = class.value_at(time, meter.at_peak());
            if part.want == 0 {
                return Claim {
                    value,
                    ..Claim::default()
                };
            }
            let aged = tenant.aged(class, now).filter(|_| kind == Kind::Core);
            Claim {
                want: part.want,
                guarantee: Rate(class.guarantee.of(open).0 / sharers[tenant.class.index()]),
                value,
                debt: part.debt,
                aged,
            }
        }));
    }

    fn fill_bytes(&mut self, scene: Scene<'_>, capacity: &Capacity) {
        let Scene {
            policy, queue, now, ..
        } = scene;
        let Claims { demands, keeps, .. } = self;
        let tenants = || scene.tenants.by_slot().map(|(tenant, _)| tenant);
        let [device_memory, _] = capacity.bytes;
        let counted = scene.floor.pool().devices_counted();
        for (slot, tenant) in tenants().enumerate() {
            let devices = tenant.map(|tenant| tenant.parts[Kind::Device.index()]);
            let devices = devices.unwrap_or_default();
            keeps[slot] = match devices.demand {
                0 => 0,
                _ => queue.device_memory(slot, counted).min(device_memory),
            };
            demands.bytes[Bytes::Device.index()][slot].want = match devices.want {
                0 => 0,
                _ => keeps[slot],
            };
            let memory = queue.host_memory(slot);
            let claim = &mut demands.bytes[Bytes::Host.index()][slot];
            claim.want = memory.want;
            claim.aged = tenant.and_then(|tenant| {
                let class = policy.class(tenant.class)?;
                let bound = tenant.starves_since?.plus(class.ageing_max);
                (bound <= now).then_some((bound, memory.next?))
            });
        }
        for kind in [Bytes::Device, Bytes::Host] {
            let there = capacity.bytes[kind.index()];
            let claims = &mut demands.bytes[kind.index()];
            // A guarantee of tables is shared with those whose devices are lent.
            let uses = |slot: usize, claim: &ByteClaim| match kind {
                Bytes::Device => keeps[slot] > 0,
                Bytes::Host => claim.want > 0,
            };
            let mut sharers = [0; CLASSES_MAX];
            for (slot, (tenant, claim)) in tenants().zip(&*claims).enumerate() {
                if let Some(tenant) = tenant.filter(|_| uses(slot, claim)) {
                    sharers[tenant.class.index()] += 1;
                }
            }
            let class = |tenant: &Tenant| policy.class(tenant.class);
            for (slot, (tenant, claim)) in tenants().zip(claims).enumerate() {
                claim.guarantee = match (tenant, tenant.and_then(class)) {
                    (Some(tenant), Some(class)) if uses(slot, claim) => {
                        class.guarantee.of_bytes(there) / sharers[tenant.class.index()]
                    }
                    _ => 0,
                };
            }
        }
        for (keeps, claim) in keeps.iter_mut().zip(&demands.bytes[Bytes::Device.index()]) {
            *keeps = claim.guarantee.min(*keeps);
        }
    }

    /// What time of day it is, if anybody has said.
    fn time_of_day(&self, now: Nanos) -> Option<TimeOfDay> {
        let (at, unix) = self.wall?;
        Some(TimeOfDay::of_unix(unix.plus(now.since(at))))
    }

    /// As the matcher takes them.
    pub(super) fn demands(&self) -> &Demands {
        &self.demands
    }

    /// What a tenant asks for of a kind of units.
    pub(super) fn units(&self, kind: Kind, slot: usize) -> &Claim {
        &self.demands.units[kind.index()][slot]
    }

    /// What a tenant asks for of a kind of bytes.
    pub(super) fn bytes(&self, kind: Bytes, slot: usize) -> &ByteClaim {
        &self.demands.bytes[kind.index()][slot]
    }

    /// A tenant's value now.
    pub(super) fn value(&self, slot: usize) -> u32 {
        self.units(Kind::Core, slot).value
    }

    /// What stays to a tenant of its tables on all devices together.
    pub(super) fn keeps(&self, slot: usize) -> u64 {
        self.keeps[slot]
    }
}
