//! Leases: what has one ends with it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{MAX_LEASES, Refusal, State};

/// The longest time between two calls of [`State::advance`] that is taken for the passing of time. If
/// it is longer, the store itself stood still (a process that was stopped, a machine that slept), and
/// could not be told of renewals: leases then last as much longer. A lease may outlast its time, never
/// the other way around.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Lease {
    ttl: Duration,
    end: Duration,
    pub(super) keys: BTreeSet<Vec<u8>>,
}

/// What a lease has left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    pub(crate) left: Duration,
    pub(crate) granted: Duration,
    pub(crate) keys: Vec<Vec<u8>>,
}

impl State {
    /// Says how late it is. Leases whose time has passed end, one revision each.
    pub(crate) fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        if passed > STANDSTILL {
            self.expiries.clear();
            for (id, lease) in &mut self.leases {
                lease.end += passed;
                self.expiries.insert((lease.end, *id));
            }
        }
        self.now = self.now.max(now);
        while let Some((end, id)) = self.expiries.first().copied()
            && end <= self.now
        {
            self.end(id);
        }
    }

    /// Grants a lease; `id` 0 lets the store choose one. Returns its name.
    pub(crate) fn grant(&mut self, id: i64, ttl: Duration) -> Result<i64, Refusal> {
        if self.leases.len() >= MAX_LEASES {
            return Err(Refusal::TooManyLeases);
        }
        let id = if id == 0 { self.free_name() } else { id };
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let end = self.now + ttl;
        let keys = BTreeSet::new();
        self.leases.insert(id, Lease { ttl, end, keys });
        self.expiries.insert((end, id));
        Ok(id)
    }

    /// Lets a lease's time begin again; returns it, or nothing if there is no such lease.
    pub(crate) fn renew(&mut self, id: i64) -> Option<Duration> {
        let lease = self.leases.get_mut(&id)?;
        self.expiries.remove(&(lease.end, id));
        lease.end = self.now + lease.ttl;
        self.expiries.insert((lease.end, id));
        Some(lease.ttl)
    }

    /// Ends a lease.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<(), Refusal> {
        if !self.leases.contains_key(&id) {
            return Err(Refusal::LeaseNotFound);
        }
        self.end(id);
        Ok(())
    }

    /// Returns what a lease has left.
    pub(crate) fn time_to_live(&self, id: i64) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        Some(TimeToLive {
            left: lease.end.saturating_sub(self.now),
            granted: lease.ttl,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    pub(super) fn has_lease(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    fn end(&mut self, id: i64) {
        if let Some(lease) = self.leases.remove(&id) {
            self.expiries.remove(&(lease.end, id));
            for key in lease.keys {
                self.delete(&key);
            }
            self.commit();
        }
    }

    fn free_name(&mut self) -> i64 {
        loop {
            let id = self.next_lease;
            self.next_lease = id.checked_add(1).unwrap_or(1);
            if !self.leases.contains_key(&id) {
                return id;
            }
        }
    }
}
