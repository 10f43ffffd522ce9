//! Puts the command line, the environment and the file together.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;

use crate::effective::{Effective, Entry};
use crate::file::File;
use crate::literal;
use crate::origin::Origin;
use crate::problem::{Error, Problem};
use crate::setting::{CHECK_CONFIG, CONFIG, Kind, Setting, Settings, Table};

/// A command line with everything that belongs to it.
#[derive(Debug)]
pub struct Resolved {
    /// What clap makes of it all; for `FromArgMatches`.
    pub matches: ArgMatches,
    /// The settings of the subcommand, or `None` for one that takes no settings.
    pub effective: Option<Effective>,
    /// The settings are to be checked and printed, and nothing is to be started.
    pub check_only: bool,
}

/// A setting that is not on the command line, and what is known of it.
struct Layered<'s> {
    table: &'s Table,
    setting: &'s Setting,
    origin: Origin,
    /// What the environment or the file gives.
    values: Vec<OsString>,
}

impl Settings {
    /// Reads a command line (the program's name first), the variables that `environment` returns, and
    /// the file that either names. A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    ///
    /// Help and version, as clap has it; a command line that clap refuses; and everything that is wrong
    /// with the file and with the variables of the subcommand. A mistake in the file counts also where
    /// this subcommand does not read it, or the command line goes before it.
    pub fn read(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Resolved, Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let glance = self.without_environment().ignore_errors(true);
        let glance = glance.try_get_matches_from(&arguments);
        let table = glance.as_ref().ok().and_then(ArgMatches::subcommand);
        let table = table.and_then(|(name, matches)| Some((self.table(name)?, matches)));
        let (Ok(top), Some((table, sub))) = (&glance, table) else {
            return self.read_plainly(&arguments);
        };

        let path = self.path(sub, environment);
        let (file, mut problems) = match &path {
            Some((path, named_by)) => File::read(self, path, named_by),
            None => (File::default(), Vec::new()),
        };
        let is_typed = |setting: &Setting| {
            [top, sub].iter().any(|matches| {
                let known = matches.try_contains_id(&setting.id).is_ok();
                known && matches.value_source(&setting.id) == Some(ValueSource::CommandLine)
            })
        };
        let mut layered = Vec::new();
        for (table, setting) in [self.top(), table]
            .iter()
            .flat_map(|table| table.settings.iter().map(move |setting| (*table, setting)))
        {
            match layer(table, setting, is_typed(setting), &file, environment) {
                Ok(known) => layered.push(known),
                Err(problem) => problems.push(*problem),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Problems(problems));
        }
        let file = path.as_ref().map(|(path, _)| path.as_path());
        self.read_together(&arguments, layered, file)
    }

    /// Reads the command line of a subcommand without settings, or one that asks for help.
    fn read_plainly(&self, arguments: &[OsString]) -> Result<Resolved, Error> {
        let matches = self.command.clone().try_get_matches_from(arguments);
        let matches = matches.map_err(|error| Error::CommandLine {
            error: Box::new(error),
            notes: Vec::new(),
        })?;
        Ok(Resolved {
            matches,
            effective: None,
            check_only: false,
        })
    }

    /// Returns the file, and what names it.
    fn path(
        &self,
        matches: &ArgMatches,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Option<(PathBuf, String)> {
        if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
            return Some((path.clone(), "--config".into()));
        }
        let path = set(environment, &self.config_variable)?;
        Some((path.into(), self.config_variable.clone()))
    }

    /// Reads the command line with what the environment and the file add to it.
    fn read_together(
        &self,
        arguments: &[OsString],
        layered: Vec<Layered<'_>>,
        file: Option<&Path>,
    ) -> Result<Resolved, Error> {
        let added = |at_the_top: bool| {
            let those = layered
                .iter()
                .filter(move |known| known.table.name.is_none() == at_the_top);
            those.flat_map(|known| known.setting.as_flags(&known.values))
        };
        let name = arguments.len().min(1);
        // Whatever follows two hyphens is no flag any more.
        let hyphens = arguments.iter().position(|argument| argument == "--");
        let end = hyphens.unwrap_or(arguments.len()).max(name);
        let together = arguments[..name].iter().cloned().chain(added(true));
        let together = together.chain(arguments[name..end].iter().cloned());
        let together = together.chain(added(false));
        let together = together.chain(arguments[end..].iter().cloned());

        let command = self.without_environment();
        let matches = command
            .try_get_matches_from(together)
            .map_err(|error| refused(error, &layered, file))?;
        let (_, sub) = matches
            .subcommand()
            .expect("the flags that are added change no subcommand");
        let entries = layered.into_iter().map(|known| known.entry(&matches, sub));
        let effective = Effective::new(entries.collect());
        Ok(Resolved {
            check_only: sub.get_flag(CHECK_CONFIG),
            effective: Some(effective),
            matches,
        })
    }
}

/// Finds out who gives a setting, and what.
fn layer<'s>(
    table: &'s Table,
    setting: &'s Setting,
    is_typed: bool,
    file: &File,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Layered<'s>, Box<Problem>> {
    let (origin, values) = if is_typed {
        (Origin::Flag, Vec::new())
    } else if let Some(value) = set(environment, &setting.variable) {
        let values = variable_values(setting, &value)?;
        (Origin::Variable(setting.variable.clone()), values)
    } else if let Some(given) = file.get(table, setting) {
        let values = given.values.iter().map(OsString::from).collect();
        (given.origin.clone(), values)
    } else if setting.kind == Kind::Flag || !setting.arg.get_default_values().is_empty() {
        (Origin::Default, Vec::new())
    } else {
        (Origin::Unset, Vec::new())
    };
    Ok(Layered {
        table,
        setting,
        origin,
        values,
    })
}

fn set(environment: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    environment(name).filter(|value| !value.is_empty())
}

/// Checks the value of a variable; one of a list holds its elements, separated.
fn variable_values(setting: &Setting, value: &OsStr) -> Result<Vec<OsString>, Box<Problem>> {
    let refused = |value: &OsStr, reason: String| {
        Box::new(Problem::Refused {
            origin: Origin::Variable(setting.variable.clone()),
            key: None,
            table: None,
            expected: setting.value_name(),
            value: value.to_string_lossy().into_owned(),
            reason,
        })
    };
    let values: Vec<OsString> = match (setting.kind, value.to_str()) {
        (Kind::Flag, Some("true" | "false")) => return Ok(vec![value.to_owned()]),
        (Kind::Flag, _) => return Err(refused(value, "a flag is given or not".into())),
        (Kind::One, _) => vec![value.to_owned()],
        (Kind::Many, Some(text)) => text.split(setting.separator()).map(Into::into).collect(),
        (Kind::Many, None) => return Err(refused(value, "it is no UTF-8 text".into())),
    };
    for value in &values {
        let checked = setting.check(value);
        checked.map_err(|reason| refused(value, reason))?;
    }
    Ok(values)
}

impl Layered<'_> {
    fn entry(&self, top: &ArgMatches, sub: &ArgMatches) -> Entry {
        let matches = match self.table.name {
            None => top,
            Some(_) => sub,
        };
        let id = &self.setting.id;
        let texts: Vec<OsString> = match self.setting.kind {
            Kind::Flag => vec![matches.get_flag(id).to_string().into()],
            Kind::One | Kind::Many => {
                let raw = matches.get_raw(id).into_iter().flatten();
                raw.map(OsStr::to_owned).collect()
            }
        };
        let value = (!texts.is_empty()).then(|| literal::value(self.setting, &texts));
        let origin = match (&self.origin, &value) {
            // A default that depends on other settings.
            (Origin::Unset, Some(_)) => Origin::Default,
            (origin, _) => origin.clone(),
        };
        Entry {
            table: self.table.name.clone(),
            key: self.setting.key.clone(),
            value,
            origin,
        }
    }

    fn missing(&self, file: Option<&Path>) -> Problem {
        Problem::Missing {
            key: self.setting.key.clone(),
            flag: self.setting.flag(),
            variable: self.setting.variable.clone(),
            table: self.table.name.clone(),
            file: match file {
                Some(path) => path.display().to_string(),
                None => "a file (--config FILE)".into(),
            },
        }
    }
}

/// Explains what clap refuses about it all: what is missing in three ways to give it, anything else in
/// clap's own words, and with where the flags come from that nobody typed.
fn refused(error: clap::Error, layered: &[Layered<'_>], file: Option<&Path>) -> Error {
    let spoken: Vec<String> = error
        .context()
        .flat_map(|(_, value)| texts(value))
        .collect();
    let is_spoken_of = |known: &&Layered<'_>| {
        let flag = format!("--{}", known.setting.long);
        let mut words = spoken.iter().flat_map(|text| text.split_whitespace());
        words.any(|word| word.split('=').next() == Some(&flag))
    };
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let missing = match error.get(ContextKind::InvalidArg) {
            Some(value) => texts(value),
            None => Vec::new(),
        };
        let problems: Vec<Problem> = layered
            .iter()
            .filter(|known| missing.contains(&known.setting.flag()))
            .map(|known| known.missing(file))
            .collect();
        // Arguments without a flag are no settings: clap says it better.
        if problems.len() == missing.len() && !problems.is_empty() {
            return Error::Problems(problems);
        }
    }
    let untyped = layered.iter().filter(|known| !known.values.is_empty());
    let notes = untyped
        .filter(is_spoken_of)
        .map(|known| format!("--{} comes from {}", known.setting.long, known.origin));
    Error::CommandLine {
        notes: notes.collect(),
        error: Box::new(error),
    }
}

fn texts(value: &ContextValue) -> Vec<String> {
    match value {
        ContextValue::String(text) => vec![text.clone()],
        ContextValue::Strings(texts) => texts.clone(),
        _ => Vec::new(),
    }
}
