//! Reads the file: all of it, and all that is wrong with it at once.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::nearest;
use crate::origin::Origin;
use crate::problem::{Hint, Problem};
use crate::setting::{Kind, Setting, Settings, Table};

/// Most bytes of a file of settings; a longer one is something else, named by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says of one setting.
#[derive(Debug)]
pub(crate) struct Given {
    table: Option<String>,
    id: String,
    pub(crate) origin: Origin,
    /// Checked, each by itself.
    pub(crate) values: Vec<String>,
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    given: Vec<Given>,
}

impl File {
    /// Reads and checks a file, also what it says to other subcommands: it is written once for all.
    /// Returns what it says and what is wrong with it.
    pub(crate) fn read(settings: &Settings, path: &Path, named_by: &str) -> (Self, Vec<Problem>) {
        let text = match text(path, named_by) {
            Ok(text) => text,
            Err(problem) => return (Self::default(), vec![*problem]),
        };
        let mut reader = Reader {
            settings,
            path,
            text: &text,
            given: Vec::new(),
            problems: Vec::new(),
        };
        reader.read();
        let Reader {
            given,
            mut problems,
            ..
        } = reader;
        // The tables of TOML come sorted by their names.
        problems.sort_by_key(Problem::line);
        (Self { given }, problems)
    }

    /// Returns what the file says of a setting.
    pub(crate) fn get(&self, table: &Table, setting: &Setting) -> Option<&Given> {
        let mut given = self.given.iter();
        given.find(|given| given.table == table.name && given.id == setting.id)
    }
}

fn text(path: &Path, named_by: &str) -> Result<String, Box<Problem>> {
    let unreadable = |source| {
        Box::new(Problem::Unreadable {
            path: path.to_owned(),
            named_by: named_by.to_owned(),
            source,
        })
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(MAX_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Box::new(Problem::TooLong {
            path: path.to_owned(),
            limit: MAX_BYTES,
        }));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Box::new(Problem::Syntax {
            at: Origin::File {
                path: path.to_owned(),
                line: 1 + newlines(before),
            },
            message: "bytes that are no UTF-8 text".into(),
        })
    })
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

struct Reader<'r> {
    settings: &'r Settings,
    path: &'r Path,
    text: &'r str,
    given: Vec<Given>,
    problems: Vec<Problem>,
}

impl<'r> Reader<'r> {
    fn read(&mut self) {
        let parsed = match DeTable::parse(self.text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start);
                return self.problems.push(Problem::Syntax {
                    at: self.at(start),
                    message: error.message().to_owned(),
                });
            }
        };
        let settings = self.settings;
        for (key, value) in parsed.get_ref().iter() {
            let at = self.at(key.span().start);
            match (settings.table(key.get_ref()), value.get_ref()) {
                (Some(table), DeValue::Table(keys)) => {
                    for (key, value) in keys.iter() {
                        self.entry(table, key, value);
                    }
                }
                (Some(_), other) => self.problems.push(Problem::WrongType {
                    at,
                    key: key.get_ref().to_string(),
                    table: None,
                    expected: format!("a table: [{}]", key.get_ref()),
                    found: described(other),
                }),
                (None, DeValue::Table(_)) if find(settings.top(), key.get_ref()).is_none() => {
                    self.problems.push(Problem::UnknownTable {
                        at,
                        table: key.get_ref().to_string(),
                        hint: self.table_hint(key.get_ref()),
                    });
                }
                (None, _) => self.entry(settings.top(), key, value),
            }
        }
    }

    fn entry(
        &mut self,
        table: &'r Table,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = self.at(key.span().start);
        let Some(setting) = find(table, key.get_ref()) else {
            return self.problems.push(Problem::UnknownKey {
                at,
                key: key.get_ref().to_string(),
                table: table.name.clone(),
                hint: self.key_hint(table, key.get_ref()),
            });
        };
        match values(setting, value.get_ref()) {
            Err((expected, found)) => self.problems.push(Problem::WrongType {
                at,
                key: setting.key.clone(),
                table: table.name.clone(),
                expected,
                found,
            }),
            Ok(values) => self.take(table, setting, at, values),
        }
    }

    /// Keeps the values of a setting that clap takes.
    fn take(&mut self, table: &Table, setting: &Setting, origin: Origin, values: Vec<String>) {
        let mut refused = values.iter().filter_map(|value| {
            let reason = refusal(setting, value)?;
            Some((value.clone(), reason))
        });
        if let Some((value, reason)) = refused.next() {
            return self.problems.push(Problem::Refused {
                origin,
                key: Some(setting.key.clone()),
                table: table.name.clone(),
                expected: setting.value_name(),
                value,
                reason,
            });
        }
        self.given.push(Given {
            table: table.name.clone(),
            id: setting.id.clone(),
            origin,
            values,
        });
    }

    fn at(&self, byte: usize) -> Origin {
        Origin::File {
            path: PathBuf::from(self.path),
            line: 1 + newlines(&self.text.as_bytes()[..byte]),
        }
    }

    fn table_hint(&self, name: &str) -> Hint {
        let tables = self.settings.tables.iter();
        let known = tables.filter_map(|table| table.name.as_deref());
        nearest(name, known).map_or(Hint::NothingIsKnown, |name| Hint::Nearest(name.into()))
    }

    /// A key that is known elsewhere has been put in the wrong place; any other has been misspelled.
    fn key_hint(&self, table: &Table, key: &str) -> Hint {
        if find(self.settings.top(), key).is_some() {
            return Hint::BelongsAtTheTop;
        }
        let tables = self.settings.tables.iter();
        let holders = tables.filter(|table| find(table, key).is_some());
        let holders: Vec<String> = holders.filter_map(|table| table.name.clone()).collect();
        if !holders.is_empty() {
            return Hint::BelongsUnder(holders);
        }
        let known = table.settings.iter().map(|setting| setting.key.as_str());
        nearest(key, known).map_or(Hint::NothingIsKnown, |name| Hint::Nearest(name.into()))
    }
}

fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Setting> {
    table.settings.iter().find(|setting| setting.key == key)
}

/// Returns the texts that a value gives to clap, or what was expected and what was found.
fn values(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, (String, String)> {
    let expected = match setting.kind {
        Kind::Flag => "true or false",
        Kind::One => "a string or a number",
        Kind::Many => "an array of strings",
    };
    let wrong = |found| Err((format!("{expected} ({})", setting.flag()), found));
    match (setting.kind, value) {
        (Kind::Flag, DeValue::Boolean(yes)) => Ok(vec![yes.to_string()]),
        (Kind::One, scalar) => match scalar_text(scalar) {
            Some(text) => Ok(vec![text]),
            None => wrong(described(value)),
        },
        (Kind::Many, DeValue::Array(elements)) => {
            let texts = elements
                .iter()
                .map(|element| scalar_text(element.get_ref()));
            match texts.collect::<Option<Vec<String>>>() {
                Some(texts) if !texts.is_empty() => Ok(texts),
                Some(_) => wrong("an empty one".into()),
                None => wrong("an array with something else".into()),
            }
        }
        (Kind::Flag | Kind::Many, other) => wrong(described(other)),
    }
}

/// Returns a string as it is, and a number as people write it.
fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let value = i128::from_str_radix(number.as_str(), number.radix());
            Some(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", crate::literal::quoted(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => format!("the time {time}; a string has quotes"),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Says why a value cannot be given, if it cannot.
fn refusal(setting: &Setting, value: &str) -> Option<String> {
    match setting.kind {
        Kind::Flag => None,
        Kind::One => setting.check(value.as_ref()).err(),
        Kind::Many if value.contains(setting.separator()) => Some(format!(
            "an element holds no '{}'; write several elements",
            setting.separator()
        )),
        Kind::Many => setting.check(value.as_ref()).err(),
    }
}
