//! The settings as they hold, with where each comes from.

use std::fmt;

use crate::origin::Origin;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) table: Option<String>,
    pub(crate) key: String,
    /// In TOML.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// The settings of a command as they hold. Displayed, it is a file that gives the same settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What stands at the top comes first.
    entries: Vec<Entry>,
}

impl Effective {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Returns the settings that somebody has given, in one line for the log.
    #[must_use]
    pub fn given(&self) -> String {
        let given = self.entries.iter().filter_map(|entry| {
            let value = entry.value.as_ref()?;
            let is_given = entry.origin != Origin::Default;
            is_given.then(|| format!("{} = {value} ({})", entry.key, entry.origin))
        });
        given.collect::<Vec<String>>().join(", ")
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = None;
        for entry in &self.entries {
            if let Some(name) = entry.table.as_ref()
                && entry.table != table
            {
                writeln!(f, "\n[{name}]")?;
                table.clone_from(&entry.table);
            }
            match &entry.value {
                Some(value) => writeln!(f, "{} = {value} # {}", entry.key, entry.origin)?,
                None => writeln!(f, "# {} is not set", entry.key)?,
            }
        }
        Ok(())
    }
}
