//! Which settings a clap command has.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, value_parser};

/// Id of the option that names the file.
pub(crate) const CONFIG: &str = "config";

/// Id of the option that only checks.
pub(crate) const CHECK_CONFIG: &str = "check-config";

/// How many values a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Yes or no; a flag without a value.
    Flag,
    /// One value.
    One,
    /// A list: a flag that is repeated, or whose value has separators.
    Many,
}

/// One option, seen as a setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Clap's name of it.
    pub(crate) id: String,
    /// The flag, without its two hyphens.
    pub(crate) long: String,
    /// The key in the file.
    pub(crate) key: String,
    /// The environment variable.
    pub(crate) variable: String,
    pub(crate) kind: Kind,
    /// As the command declares it.
    pub(crate) arg: Arg,
}

/// The settings that stand together in the file.
#[derive(Debug)]
pub(crate) struct Table {
    /// The subcommand; none for what stands at the top of the file, and holds for all.
    pub(crate) name: Option<String>,
    pub(crate) settings: Vec<Setting>,
}

/// A clap command of which some subcommands take their settings from a file and the environment, too.
#[derive(Debug)]
pub struct Settings {
    /// With `--config`, `--check-config` and the names of all variables, for the help.
    pub(crate) command: Command,
    /// The variable that names the file.
    pub(crate) config_variable: String,
    /// What stands at the top first, and then a table for each subcommand.
    pub(crate) tables: Vec<Table>,
}

impl Settings {
    /// Gives the named subcommands of a command a file and variables. The variables begin with
    /// `prefix`, except those that the command names itself.
    ///
    /// # Panics
    ///
    /// If the command lacks such a subcommand, or has an option that takes neither nothing, nor one
    /// value, nor a list: that is a mistake in the program, which any run shows.
    #[must_use]
    pub fn new(command: Command, prefix: &str, subcommands: &[&str]) -> Self {
        let config_variable = format!("{prefix}CONFIG");
        let mut command = command.mut_args(|arg| with_variable(arg, prefix));
        let mut tables = vec![Table {
            name: None,
            settings: settings(&command),
        }];
        for name in subcommands {
            command = command.mut_subcommand(name, |subcommand| {
                let subcommand = subcommand.mut_args(|arg| with_variable(arg, prefix));
                tables.push(Table {
                    name: Some((*name).to_owned()),
                    settings: settings(&subcommand),
                });
                subcommand.args(own_options(&config_variable))
            });
        }
        for setting in &tables[0].settings {
            let key = setting.key.as_str();
            assert!(!subcommands.contains(&key), "{key} is a key and a table");
        }
        Self {
            command,
            config_variable,
            tables,
        }
    }

    /// Returns the names of all variables that are read, each once and in order. Whoever starts this
    /// program as a child and decides its settings by flags takes these from its environment.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let settings = self.tables.iter().flat_map(|table| &table.settings);
        let mut names: Vec<String> = settings.map(|setting| setting.variable.clone()).collect();
        names.push(self.config_variable.clone());
        names.sort();
        names.dedup();
        names
    }

    /// Returns the table of a subcommand, or `None` for one that takes no settings.
    pub(crate) fn table(&self, subcommand: &str) -> Option<&Table> {
        let mut tables = self.tables.iter();
        tables.find(|table| table.name.as_deref() == Some(subcommand))
    }

    /// Returns what stands at the top of the file.
    pub(crate) fn top(&self) -> &Table {
        &self.tables[0]
    }

    /// Returns the command as it reads a command line to which the variables have been added: it does
    /// not look at the environment itself.
    pub(crate) fn without_environment(&self) -> Command {
        let forget = |arg: Arg| match is_setting(&arg) {
            true => arg.env(Resettable::Reset),
            false => arg,
        };
        let mut command = self.command.clone().mut_args(forget);
        for name in self.tables.iter().filter_map(|table| table.name.as_ref()) {
            command = command.mut_subcommand(name, |subcommand| {
                let subcommand = subcommand.mut_args(forget);
                subcommand.mut_arg(CONFIG, |arg| arg.env(Resettable::Reset))
            });
        }
        command
    }
}

fn own_options(config_variable: &str) -> [Arg; 2] {
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .env(config_variable.to_owned())
        .help("A file of settings, in TOML; flags and variables go before what it says");
    let check = Arg::new(CHECK_CONFIG)
        .long("check-config")
        .action(ArgAction::SetTrue)
        .help("Check all settings, print them with where each comes from, and end");
    [config, check]
}

/// Hidden options are for other programs, not for people.
fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some()
        && !arg.is_hide_set()
        && arg.get_id() != CONFIG
        && arg.get_id() != CHECK_CONFIG
}

fn with_variable(arg: Arg, prefix: &str) -> Arg {
    match arg.get_long() {
        Some(long) if is_setting(&arg) && arg.get_env().is_none() => {
            let name = format!("{prefix}{}", long.replace('-', "_").to_uppercase());
            arg.env(name)
        }
        _ => arg,
    }
}

fn settings(command: &Command) -> Vec<Setting> {
    let declared = command.get_arguments().filter(|arg| is_setting(arg));
    declared.map(Setting::new).collect()
}

impl Setting {
    fn new(arg: &Arg) -> Self {
        let long = arg.get_long().expect("a setting has a long flag");
        let variable = arg.get_env().map(OsStr::to_string_lossy);
        let most_values = arg.get_num_args().map_or(1, |range| range.max_values());
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Flag,
            ArgAction::Set if most_values == 1 => Kind::One,
            ArgAction::Append if most_values == 1 => Kind::Many,
            action => {
                panic!("--{long} ({action:?}) takes neither nothing, nor a value, nor a list")
            }
        };
        Self {
            id: arg.get_id().to_string(),
            long: long.to_owned(),
            key: long.replace('-', "_"),
            variable: variable.expect("every setting was given one").into_owned(),
            kind,
            arg: arg.clone(),
        }
    }

    /// Tells whether any text is a value, so that one which looks like a number is still none.
    pub(crate) fn is_text(&self) -> bool {
        self.arg.get_value_parser().type_id() == TypeId::of::<String>()
    }

    /// Returns what values look like, for people: the name of the value in the help.
    pub(crate) fn value_name(&self) -> String {
        match (self.kind, self.arg.get_value_names()) {
            (Kind::Flag, _) => "true or false".into(),
            (_, Some([name, ..])) => name.to_string(),
            (_, _) => self.key.to_uppercase(),
        }
    }

    /// Returns the flag as the help shows it.
    pub(crate) fn flag(&self) -> String {
        match self.kind {
            Kind::Flag => format!("--{}", self.long),
            Kind::One | Kind::Many => format!("--{} <{}>", self.long, self.value_name()),
        }
    }

    /// Returns what separates the elements of a list in one text.
    pub(crate) fn separator(&self) -> char {
        self.arg.get_value_delimiter().unwrap_or(',')
    }

    /// Tells whether clap takes this value for this option; the error says why not.
    pub(crate) fn check(&self, value: &OsStr) -> Result<(), String> {
        // Neither the other options nor the rules between them matter here.
        let alone = Arg::new(self.id.clone())
            .long(self.long.clone())
            .ignore_case(self.arg.is_ignore_case_set())
            .value_parser(self.arg.get_value_parser().clone());
        let command = Command::new("check").no_binary_name(true).arg(alone);
        match command.try_get_matches_from([with_value(&self.long, value)]) {
            Ok(_) => Ok(()),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Returns the flags that give this setting these values, each checked before.
    pub(crate) fn as_flags(&self, values: &[OsString]) -> Vec<OsString> {
        match self.kind {
            Kind::Flag if values.iter().all(|value| value == "false") => Vec::new(),
            Kind::Flag => vec![format!("--{}", self.long).into()],
            Kind::One | Kind::Many => {
                let flags = values.iter().map(|value| with_value(&self.long, value));
                flags.collect()
            }
        }
    }
}

fn with_value(long: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(format!("--{long}="));
    flag.push(value);
    flag
}

/// Says why clap refuses a value, without its talk of flags.
fn reason(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue)
        && !known.is_empty()
    {
        return format!("it is one of {}", known.join(", "));
    }
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("error: ").to_owned()
}
