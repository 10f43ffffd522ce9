//! What an operator wants to know of a checkpoint before serving it.

use std::fmt;

use spec::{Attention, Geometry, Placement, Rank};

use crate::checkpoint::{Checkpoint, Store};
use crate::config::{GENERATION, ModelConfig};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::name::ModelName;
use crate::tensors::Dtype;

/// Files that serving a chat needs beside the weights.
const TOKENIZER: &str = "tokenizer.json";
/// Bytes of one cached number: keys and values are kept in bfloat16 or wider.
const KV_BYTES: usize = 2;

/// The facts of a checkpoint. Its text form is for people.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was looked at.
    pub name: ModelName,
    /// What the configuration says.
    pub config: ModelConfig,
    /// Number of tensors.
    pub num_tensors: usize,
    /// Bytes of all tensors.
    pub num_bytes: u64,
    /// Values of all tensors, and how many of them are in MXFP4.
    pub num_parameters: u64,
    /// Values stored as MXFP4 codes.
    pub num_mxfp4: u64,
    /// Name and bytes of each file of weights; empty for a model made in memory.
    pub shards: Vec<(String, u64)>,
    /// Bytes that every rank holds.
    pub replicated_bytes: u64,
    /// Bytes of one expert of one layer.
    pub expert_bytes: u64,
    /// What a rank holds in groups of some sizes.
    pub groups: Vec<GroupShare>,
    /// The short name of the weights.
    pub fingerprint: Fingerprint,
    /// What is unusual but can be served.
    pub warnings: Vec<Warning>,
}

/// Bytes of weights in a group of ranks with an even placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupShare {
    /// Ranks of the group.
    pub num_ranks: usize,
    /// Bytes of the rank that holds most.
    pub most: u64,
    /// Bytes of the rank that holds least.
    pub least: u64,
}

/// Something unusual that does not stop a checkpoint from being served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The index counts another number of bytes than the tensors have.
    #[error("the index says {says} bytes of tensors, but there are {found}")]
    TotalSize {
        /// By the index.
        says: u64,
        /// By the headers.
        found: u64,
    },
    /// A file that serving uses is not there.
    #[error("there is no {name}")]
    Absent {
        /// Its name.
        name: &'static str,
    },
    /// Nothing says where a generation ends.
    #[error("no token ends a generation; every answer will run to its limit")]
    NoEnd,
}

impl Report {
    /// Collects the facts; `ranks` are the sizes of groups to reckon with, zeros are left out.
    ///
    /// # Errors
    ///
    /// If a file cannot be read for the fingerprint.
    pub fn new(checkpoint: &Checkpoint, ranks: &[usize]) -> Result<Self, Error> {
        let mut num_parameters = 0;
        let mut num_mxfp4 = 0;
        for tensor in checkpoint.tensors() {
            if tensor.key.is_blocks() {
                num_mxfp4 += 2 * tensor.num_bytes();
            } else if tensor.dtype == Dtype::Bf16 {
                num_parameters += tensor.num_bytes() / 2;
            }
        }
        num_parameters += num_mxfp4;
        let shards = match checkpoint.store() {
            Store::Files(files) => {
                let shards = files.shards.iter();
                shards.map(|s| (s.name.clone(), s.num_bytes)).collect()
            }
            Store::Synth(_) => Vec::new(),
        };
        let groups = ranks.iter().filter(|ranks| **ranks > 0);
        Ok(Self {
            name: checkpoint.name(),
            config: checkpoint.config().clone(),
            num_tensors: checkpoint.tensors().len(),
            num_bytes: checkpoint.num_bytes(),
            num_parameters,
            num_mxfp4,
            shards,
            replicated_bytes: checkpoint.replicated_bytes(),
            expert_bytes: checkpoint.expert_bytes(),
            groups: groups.map(|ranks| share(checkpoint, *ranks)).collect(),
            fingerprint: checkpoint.fingerprint()?,
            warnings: warnings(checkpoint),
        })
    }
}

fn share(checkpoint: &Checkpoint, num_ranks: usize) -> GroupShare {
    let geometry = checkpoint.geometry();
    let placement = Placement::even(geometry.num_layers(), geometry.num_experts, num_ranks);
    // An even placement gives most to the first rank and least to the last.
    let bytes = |rank: usize| checkpoint.bytes_for_rank(&placement, Rank(rank as u32));
    GroupShare {
        num_ranks,
        most: bytes(0),
        least: bytes(num_ranks - 1),
    }
}

fn warnings(checkpoint: &Checkpoint) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Store::Files(files) = checkpoint.store() {
        let found = checkpoint.num_bytes();
        if let Some(says) = files.total_size.filter(|says| *says != found) {
            warnings.push(Warning::TotalSize { says, found });
        }
        for name in [GENERATION, TOKENIZER] {
            if !files.dir.join(name).exists() {
                warnings.push(Warning::Absent { name });
            }
        }
    }
    if checkpoint.config().eos.is_empty() {
        warnings.push(Warning::NoEnd);
    }
    warnings
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>, what: &str, value: &str| writeln!(f, "{what:<13}{value}");
        line(f, "model", &self.name.to_string())?;
        line(f, "weights", &self.fingerprint.to_string())?;
        geometry(f, &self.config.geometry)?;
        let stop: Vec<String> = self.config.eos.iter().map(ToString::to_string).collect();
        line(f, "ends at", &format!("tokens {}", stop.join(", ")))?;
        let parameters = format!(
            "{}, of them {} in MXFP4",
            grouped(self.num_parameters),
            grouped(self.num_mxfp4)
        );
        line(f, "parameters", &parameters)?;
        let tensors = format!("{}, {} bytes", self.num_tensors, grouped(self.num_bytes));
        line(f, "tensors", &tensors)?;
        for (name, bytes) in &self.shards {
            writeln!(f, "  {name}  {:>16}", grouped(*bytes))?;
        }
        line(f, "replicated", &bytes(self.replicated_bytes))?;
        let experts = format!("{} each, in each layer", bytes(self.expert_bytes));
        line(f, "experts", &experts)?;
        for group in &self.groups {
            let ranks = match group.num_ranks {
                1 => "1 rank".to_owned(),
                ranks => format!("{ranks} ranks"),
            };
            let mut text = format!("{} a rank", bytes(group.most));
            if group.least != group.most {
                text = format!("{} to {} a rank", bytes(group.least), bytes(group.most));
            }
            writeln!(f, "  {ranks:<11}{text}")?;
        }
        for warning in &self.warnings {
            line(f, "warning", &warning.to_string())?;
        }
        Ok(())
    }
}

fn geometry(f: &mut fmt::Formatter<'_>, g: &Geometry) -> fmt::Result {
    let (sliding, full) = (g.count(Attention::Sliding), g.count(Attention::Full));
    writeln!(
        f,
        "layers       {} ({sliding} sliding with a window of {}, {full} full)",
        g.num_layers(),
        g.sliding_window
    )?;
    writeln!(
        f,
        "widths       hidden {}, expert {}, vocabulary {}, context {}",
        g.hidden, g.intermediate, g.vocab_size, g.max_positions
    )?;
    writeln!(
        f,
        "heads        {} of {}, {} for keys and values",
        g.num_heads, g.head_dim, g.num_kv_heads
    )?;
    writeln!(
        f,
        "routing      {} of {} experts",
        g.experts_per_token, g.num_experts
    )?;
    let per_layer = 2 * g.kv_width() * KV_BYTES;
    writeln!(
        f,
        "KV           {} a token, and {} a sequence for its window (bfloat16)",
        bytes((full * per_layer) as u64),
        bytes((sliding * per_layer * g.sliding_window) as u64)
    )
}

/// Writes a number with a blank between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Writes a size in the decimal unit that leaves three digits or so.
fn bytes(size: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", size as f64 / unit as f64),
        None => format!("{size} B"),
    }
}
