//! Whom the leader takes in.

use super::Leader;
use crate::member::{Refused, Registration};

impl Leader {
    /// Says why a worker cannot be one of the members, if so.
    pub(super) fn admit(&self, new: &Registration) -> Result<(), Refused> {
        if let Some(old) = self.members.get(&new.name)
            && old.incarnation != new.incarnation
        {
            let (name, address) = (old.name.clone(), old.address.clone());
            return Err(Refused::NameTaken { name, address });
        }
        let differs = |what, its: &str, ours: &str| Refused::Differs {
            name: new.name.clone(),
            what,
            its: its.into(),
            ours: ours.into(),
        };
        let wire = self.config.wire;
        if !(new.wire.0..=new.wire.1).contains(&wire) {
            let its = format!("{} to {}", new.wire.0, new.wire.1);
            return Err(differs("wire version", &its, &wire.to_string()));
        }
        if new.weights != self.config.weights {
            return Err(differs("model", &new.weights, &self.config.weights));
        }
        // Ranks deal in token ids: without a tokenizer there is nothing that could disagree.
        if !new.tokenizer.is_empty() && new.tokenizer != self.config.tokenizer {
            let ours = &self.config.tokenizer;
            return Err(differs("tokenizer", &new.tokenizer, ours));
        }
        let family = new.numerics.split('-').next();
        if family != Some(&self.config.numerics) {
            let ours = &self.config.numerics;
            return Err(differs("numerics", &new.numerics, ours));
        }
        let others = self.members.values().find(|other| other.name != new.name);
        if let Some(other) = others
            && other.numerics != new.numerics
        {
            return Err(differs("numerics", &new.numerics, &other.numerics));
        }
        if new.num_ranks > self.config.num_ranks {
            let (its, ours) = (new.num_ranks.to_string(), self.config.num_ranks.to_string());
            return Err(differs("number of ranks", &its, &ours));
        }
        Ok(())
    }
}
