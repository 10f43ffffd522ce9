//! `PrepareRequest` to [`EpochPlan`].

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::internal as wire;
use spec::{Attention, Fence, Geometry, KvPlan, Placement, Rank};

use super::{Bounds, Fault, below, fence};
use crate::limits::{MAX_BLOCK_SIZE, MAX_GROUP_RANKS, MAX_NAME_BYTES, MAX_SLOTS, MAX_STEP_ROWS};

/// A worker in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Name it registered with.
    pub(crate) name: String,
    /// Where it is reached: `http://HOST:PORT`.
    pub(crate) address: String,
    /// The ranks it holds, ascending.
    pub(crate) ranks: Vec<Rank>,
}

/// An epoch as a lead describes it, checked against this worker and its model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochPlan {
    /// The group of this worker.
    pub(crate) group: String,
    /// Term and epoch.
    pub(crate) fence: Fence,
    /// This worker's ranks, ascending.
    pub(crate) own: Vec<Rank>,
    /// Those of them that were this worker's when steps of the term last ran.
    pub(crate) held: Vec<Rank>,
    /// All other members.
    pub(crate) peers: Vec<Member>,
    /// Who holds which expert.
    pub(crate) placement: Arc<Placement>,
    /// KV memory of each rank.
    pub(crate) kv: KvPlan,
    /// Most rows a rank computes in one step.
    pub(crate) max_step_rows: usize,
}

impl EpochPlan {
    /// Checks all of a request but its fence against the worker and its model.
    ///
    /// # Errors
    ///
    /// The first [`Fault`] found.
    pub(crate) fn new(request: wire::PrepareRequest, bounds: &Bounds) -> Result<Self, Fault> {
        if request.name != bounds.name {
            let why = format!("{:?} is not this worker, {:?}", request.name, bounds.name);
            return Err(Fault::new("name", why));
        }
        let fence = fence(request.fence)?;
        let members = members(request.members)?;
        let num_ranks = members.iter().map(|member| member.ranks.len()).sum();
        let (mine, peers): (Vec<_>, Vec<_>) = members
            .into_iter()
            .partition(|member| member.name == bounds.name);
        let Some(me) = mine.into_iter().next() else {
            let why = format!(
                "{:?}, to which this is sent, is not among them",
                bounds.name
            );
            return Err(Fault::new("members", why));
        };
        if me.ranks.len() != bounds.num_ranks {
            let why = format!(
                "{} for {:?}, which holds {}",
                me.ranks.len(),
                me.name,
                bounds.num_ranks
            );
            return Err(Fault::new("members.ranks", why));
        }
        let held: Vec<Rank> = request.held.into_iter().map(Rank).collect();
        if let Some(rank) = held.iter().find(|rank| !me.ranks.contains(rank)) {
            let why = format!("rank {rank} is not among those of {:?}", me.name);
            return Err(Fault::new("held", why));
        }
        let placement = placement(&request.placement, num_ranks, &bounds.geometry)?;
        let kv = kv_plan(request.kv, bounds)?;
        let max_step_rows = step_rows(request.max_step_rows, num_ranks, &bounds.geometry)?;
        Ok(Self {
            group: bounds.group.clone(),
            fence,
            own: me.ranks,
            held,
            peers,
            placement: Arc::new(placement),
            kv,
            max_step_rows,
        })
    }
}

/// Checks that the members are distinct and hold the ranks `0..n`, each once.
fn members(members: Vec<wire::Member>) -> Result<Vec<Member>, Fault> {
    if members.is_empty() {
        return Err(Fault::new("members", "is empty"));
    }
    let mut names = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut checked = Vec::with_capacity(members.len());
    for (index, member) in members.into_iter().enumerate() {
        let path = |field: &str| format!("members[{index}].{field}");
        if member.name.is_empty() || member.name.len() > MAX_NAME_BYTES {
            let why = format!("has {} bytes, not 1 to {MAX_NAME_BYTES}", member.name.len());
            return Err(Fault::new(path("name"), why));
        }
        if !names.insert(member.name.clone()) {
            return Err(Fault::new(
                path("name"),
                format!("{:?} is named twice", member.name),
            ));
        }
        if let Some(why) = crate::address::address_fault(&member.address) {
            return Err(Fault::new(path("address"), why));
        }
        if member.ranks.is_empty() {
            return Err(Fault::new(path("ranks"), "is empty"));
        }
        if !member.ranks.is_sorted() {
            return Err(Fault::new(path("ranks"), "is not ascending"));
        }
        for rank in &member.ranks {
            below(
                *rank,
                MAX_GROUP_RANKS,
                || path("ranks"),
                "ranks a group can have",
            )?;
            if !taken.insert(*rank) {
                return Err(Fault::new(
                    path("ranks"),
                    format!("rank {rank} is held twice"),
                ));
            }
        }
        checked.push(Member {
            name: member.name,
            address: member.address,
            ranks: member.ranks.into_iter().map(Rank).collect(),
        });
    }
    // Distinct ranks are 0..n exactly when the largest of them is n - 1.
    if taken
        .last()
        .is_some_and(|last| *last as usize != taken.len() - 1)
    {
        let why = format!(
            "{} ranks are held, but not all of 0..{}",
            taken.len(),
            taken.len()
        );
        return Err(Fault::new("members", why));
    }
    Ok(checked)
}

/// Checks that every expert of every layer has an owner.
fn placement(
    layers: &[wire::LayerPlacement],
    num_ranks: usize,
    geometry: &Geometry,
) -> Result<Placement, Fault> {
    if layers.len() != geometry.num_layers() {
        let why = format!(
            "has {} layers, the model has {}",
            layers.len(),
            geometry.num_layers()
        );
        return Err(Fault::new("placement", why));
    }
    for (layer, experts) in layers.iter().enumerate() {
        let found = experts.owners.len();
        if found != geometry.num_experts {
            let why = format!(
                "has {found} experts, the model has {}",
                geometry.num_experts
            );
            return Err(Fault::new(format!("placement[{layer}].owners"), why));
        }
    }
    let owners = layers
        .iter()
        .map(|layer| layer.owners.iter().copied().map(Rank).collect());
    Placement::new(num_ranks, owners.collect())
        .map_err(|error| Fault::new("placement", error.to_string()))
}

/// Checks the sizes of the KV memory, and their sum against what this worker may use.
fn kv_plan(kv: Option<wire::KvPlan>, bounds: &Bounds) -> Result<KvPlan, Fault> {
    let kv = kv.ok_or_else(|| Fault::new("kv", "is missing"))?;
    let sizes = [
        ("kv.block_size", kv.block_size, MAX_BLOCK_SIZE),
        ("kv.full_blocks", kv.full_blocks, u32::MAX as usize),
        ("kv.window_blocks", kv.window_blocks, u32::MAX as usize),
        ("kv.num_slots", kv.num_slots, MAX_SLOTS),
    ];
    for (field, size, most) in sizes {
        if size == 0 || size as usize > most {
            return Err(Fault::new(
                field,
                format!("{size} is not within 1 to {most}"),
            ));
        }
    }
    let plan = KvPlan {
        block_size: kv.block_size as usize,
        full_blocks: kv.full_blocks as usize,
        window_blocks: kv.window_blocks as usize,
        num_slots: kv.num_slots as usize,
    };
    let one = kv_bytes(&plan, &bounds.geometry);
    let all = one.saturating_mul(bounds.num_ranks as u128);
    if all > u128::from(bounds.max_kv_bytes) {
        let why = format!(
            "{} ranks of {one} bytes need {all} bytes, this worker may use {} (max_kv_bytes)",
            bounds.num_ranks, bounds.max_kv_bytes
        );
        return Err(Fault::new("kv", why));
    }
    Ok(plan)
}

/// Returns the bytes that one rank's KV takes: keys and values in `f32`, over all layers.
pub(crate) fn kv_bytes(plan: &KvPlan, geometry: &Geometry) -> u128 {
    let layer_blocks = |attention, blocks: usize| {
        (geometry.count(attention) as u128).saturating_mul(blocks as u128)
    };
    let blocks = layer_blocks(Attention::Full, plan.full_blocks)
        .saturating_add(layer_blocks(Attention::Sliding, plan.window_blocks));
    let position = 2 * size_of::<f32>() as u128 * geometry.kv_width() as u128;
    blocks
        .saturating_mul(plan.block_size as u128)
        .saturating_mul(position)
}

/// Checks that a step's rows fit into one frame, whichever rank they go to.
fn step_rows(rows: u32, num_ranks: usize, geometry: &Geometry) -> Result<usize, Fault> {
    let field = "max_step_rows";
    if rows == 0 || rows > MAX_STEP_ROWS {
        return Err(Fault::new(
            field,
            format!("{rows} is not within 1 to {MAX_STEP_ROWS}"),
        ));
    }
    let fitting = exchange::max_rows(geometry.hidden, geometry.experts_per_token);
    if num_ranks > 1 && rows as usize > fitting {
        let why = format!("{rows} rows may not fit into one frame of the exchange; {fitting} do");
        return Err(Fault::new(field, why));
    }
    Ok(rows as usize)
}
