//! What the command line says of how ranks compute.

/// How ranks compute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ComputeArgs {
    /// How the arithmetic is done: `fast` with activations rounded to 16 bits and, for the experts, to 8;
    /// `exact` with all of 32 bits, slower. Ranks of one group compute alike.
    #[arg(long, default_value = "fast", value_parser = ["exact", "fast"])]
    pub(crate) numerics: String,
    /// Where weights are kept as `fast` ranks want them, from one start to the next and for all processes of
    /// this machine: a folder, `auto` for one in the cache folder, or `off` to pack them into memory at each
    /// start. It takes as much room as the weights and may be deleted at any time.
    #[arg(long, default_value = "auto", value_name = "DIR|auto|off")]
    pub(crate) packed_cache: String,
}
