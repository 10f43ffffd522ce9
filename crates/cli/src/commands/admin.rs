//! `conclave admin`: looks at a cluster through its membership store and its leads, and gives orders.

mod cluster;
mod orders;
mod table;
mod views;

use std::io::{self, IsTerminal as _, Write as _};

use self::cluster::Cluster;
use crate::Outcome;
use crate::args::{AdminArgs, AdminCommand};

/// What is shown: a text for people and a document for programs.
struct Shown {
    text: String,
    json: serde_json::Value,
}

/// Does what was asked, and prints what came of it.
pub(crate) async fn run(args: AdminArgs) -> Outcome {
    let cluster = Cluster::read(&args).await?;
    let colour = !args.json && io::stdout().is_terminal();
    let shown = match &args.command {
        AdminCommand::Members => views::members(&cluster, colour).await,
        AdminCommand::Groups => views::groups(&cluster, colour).await,
        AdminCommand::Placement(of) => {
            views::placement(&cluster, of.group.as_deref(), colour).await
        }
        AdminCommand::Experts(of) => views::experts(&cluster, of.group.as_deref(), colour).await,
        AdminCommand::Sequences { of, limit } => {
            views::sequences(&cluster, of.group.as_deref(), limit.get(), colour).await
        }
        AdminCommand::Drain { name, timeout } => orders::drain(&cluster, name, *timeout).await,
        AdminCommand::MoveLead { group, to } => {
            orders::move_lead(&cluster, group, to.as_deref()).await
        }
    }?;
    let text = match args.json {
        true => format!("{}\n", shown.json),
        false => shown.text,
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has gone, as after `| head -1`.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to the standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes a line to the standard error; where nobody reads it, it is told to nobody.
fn tell(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
