//! Where settings come from: flags, `CONCLAVE_…` variables, and the file that `--config` names.

use clap::{CommandFactory as _, FromArgMatches as _};
use settings::{Effective, Error, Settings};

use crate::args::Args;

/// What every variable begins with.
const PREFIX: &str = "CONCLAVE_";

/// Commands that run as services, and so take settings from a file and the environment.
const SERVICES: [&str; 3] = ["coordinator", "worker", "up"];

/// What the program was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) args: Args,
    /// All settings of a service, with where they come from.
    pub(crate) effective: Option<Effective>,
    /// They are to be printed, and nothing is to be started.
    pub(crate) check_only: bool,
}

/// Describes all settings.
pub(crate) fn settings() -> Settings {
    Settings::new(Args::command(), PREFIX, &SERVICES)
}

/// Reads the command line, the environment and the file of this process.
pub(crate) fn read() -> Result<Told, Error> {
    let resolved = settings().read(std::env::args_os(), &|name| std::env::var_os(name))?;
    let args = Args::from_arg_matches(&resolved.matches).map_err(|error| Error::CommandLine {
        error: Box::new(error),
        notes: Vec::new(),
    })?;
    Ok(Told {
        args,
        effective: resolved.effective,
        check_only: resolved.check_only,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEADER: &str = "\
# Every setting of Conclave, with its default or, where it has none, a word for what goes there. This
# file is as good as an empty one: take the sign away from what you change. One file serves all
# processes of a cluster; each reads what stands at the top and the table of its own command. See
# docs/configuration.md.
";

    #[test]
    fn the_example_explains_every_setting_of_every_service() {
        let wanted = format!("{HEADER}{}", settings().example());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conclave.toml");
        if std::fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            return;
        }
        let made = std::env::temp_dir().join("conclave.toml");
        std::fs::write(&made, wanted).unwrap();
        let (path, made) = (path.display(), made.display());
        panic!(
            "{path} does not explain the settings as they are; look at it and: cp {made} {path}"
        );
    }

    #[test]
    fn no_variable_is_one_that_kubernetes_sets_for_a_service_of_our_name() {
        // A Service called `conclave`, or `conclave-…`, puts these into every pod of its namespace.
        let is_link = |name: &String| {
            name.ends_with("_PORT") || name.contains("_PORT_") || name.contains("_SERVICE_")
        };
        assert_eq!(
            settings().variables().iter().find(|name| is_link(name)),
            None
        );
    }
}
