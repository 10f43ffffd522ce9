//! A file that explains every setting.

use std::ffi::OsString;

use crate::literal;
use crate::setting::{Kind, Setting, Settings};

/// Most characters of a line, after the sign of a comment.
const WIDTH: usize = 96;

impl Settings {
    /// Writes a file with every setting of every command: what it means, its flag and its variable,
    /// and the key with its default, as a comment. A line that begins with `#` and no space is such a
    /// key, so that a person can take the sign away. Where there is no default, a word stands for it
    /// that is no TOML, so that nobody takes it for a value.
    #[must_use]
    pub fn example(&self) -> String {
        let mut out = String::new();
        for table in &self.tables {
            if let Some(name) = &table.name {
                out.push_str(&format!("\n[{name}]\n"));
            }
            for setting in &table.settings {
                out.push('\n');
                explain(&mut out, setting);
            }
        }
        out
    }
}

fn explain(out: &mut String, setting: &Setting) {
    let arg = &setting.arg;
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    if !text.is_empty() && !text.ends_with(['.', '!', '?']) {
        // Clap takes the last full stop of a short help away.
        text.push('.');
    }
    if setting.kind != Kind::Flag {
        let known = arg.get_possible_values();
        let known: Vec<&str> = known.iter().map(|value| value.get_name()).collect();
        if !known.is_empty() {
            text = format!("{text} One of: {}.", known.join(", "));
        }
    }
    let defaults: Vec<OsString> = match setting.kind {
        Kind::Flag => vec!["false".into()],
        _ => arg.get_default_values().iter().map(Into::into).collect(),
    };
    if arg.is_required_set() {
        text.push_str(" Required.");
    }
    for paragraph in text.split("\n\n") {
        wrap(out, paragraph.trim());
    }
    wrap(out, &format!("{} or {}.", setting.flag(), setting.variable));
    let key = &setting.key;
    let value = match (defaults.is_empty(), setting.kind) {
        (false, _) => literal::value(setting, &defaults),
        (true, Kind::Many) => format!("[{}]", setting.value_name()),
        (true, _) => setting.value_name(),
    };
    out.push_str(&format!("#{key} = {value}\n"));
}

/// Writes a comment, in lines that are not too long.
fn wrap(out: &mut String, text: &str) {
    let mut length = usize::MAX;
    for word in text.split_whitespace() {
        let longer = length.saturating_add(1 + word.chars().count());
        if longer > WIDTH {
            if length != usize::MAX {
                out.push('\n');
            }
            out.push_str("# ");
            length = word.chars().count();
        } else {
            out.push(' ');
            length = longer;
        }
        out.push_str(word);
    }
    if length != usize::MAX {
        out.push('\n');
    }
}
