//! The command line of `conclave admin`.

use std::num::NonZeroUsize;

use clap::Subcommand;

use super::ClusterArgs;

const ADMIN_EXAMPLES: &str = "\
Examples:
  conclave admin groups
  conclave admin --store etcd-1:2379,etcd-2:2379 --json members
  conclave admin drain worker-3";

/// Arguments of `conclave admin`.
#[derive(Debug, clap::Args)]
#[command(after_help = ADMIN_EXAMPLES)]
pub(crate) struct AdminArgs {
    /// The membership store: the endpoints of an etcd or, where that is in a coordinator's memory, its
    /// internal address.
    #[arg(
        long,
        default_value = "127.0.0.1:7101",
        value_delimiter = ',',
        value_name = "HOST:PORT,…"
    )]
    pub(crate) store: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print one JSON document, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// What is looked at, or ordered.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// List workers and coordinators.
    Members,
    /// List groups: lead, term and epoch, sequences, KV memory.
    Groups,
    /// Show which rank holds which experts.
    Placement(GroupArgs),
    /// Show how many rows each expert has computed in the last minute or two.
    Experts(GroupArgs),
    /// List the sequences that wait or run.
    Sequences {
        #[command(flatten)]
        of: GroupArgs,
        /// Most sequences of a group to list.
        #[arg(long, default_value = "100", value_name = "N")]
        limit: NonZeroUsize,
    },
    /// End a worker or a coordinator in good order, and wait until it is gone.
    Drain {
        /// The worker or coordinator.
        name: String,
        /// Longest to wait.
        #[arg(long, default_value = "120", value_name = "SECONDS")]
        timeout: u64,
    },
    /// Hand a group's lead over to another coordinator; its sequences go on there.
    MoveLead {
        /// The group.
        group: String,
        /// Name of the coordinator that shall lead. Default: any that can.
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
    },
}

/// Which groups are meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GroupArgs {
    /// Only this group.
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
}
