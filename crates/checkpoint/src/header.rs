//! The header of a safetensors file (<https://github.com/huggingface/safetensors#format>): a
//! little-endian `u64` length, then that many bytes of JSON that say where each tensor lies.
//!
//! The file is not trusted: every length is checked before it is used.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::fault::{Fault, What};
use crate::json;

/// A real header of gpt-oss has some 20 kB. The format allows 100 MB, whose parsing could take
/// gigabytes.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Bytes of the length field.
const LENGTH_BYTES: u64 = 8;
/// The one key of a header that is not a tensor.
const METADATA: &str = "__metadata__";

/// A header whose tensors can be talked about.
#[derive(Debug)]
pub(crate) struct Header {
    /// Where the data begins in the file.
    pub(crate) data_start: u64,
    /// The tensors in the order of the text.
    pub(crate) entries: Vec<Entry>,
    /// Names of those whose entries could not be used, which were reported.
    pub(crate) unusable: Vec<String>,
}

/// A tensor as a header describes it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    /// Its bytes, counted from the start of the data.
    pub(crate) range: Range<u64>,
}

/// Reads and checks the header of `file`, called `name`. `None` if nothing can be said about its
/// tensors; otherwise all entries that are sound in themselves.
pub(crate) fn read(file: &File, name: &str, faults: &mut Vec<Fault>) -> Option<Header> {
    let text = match text(file) {
        Ok(Ok(text)) => text,
        Ok(Err(what)) => {
            faults.push(Fault::file(name, what));
            return None;
        }
        Err(error) => {
            faults.push(Fault::unreadable(name, &error));
            return None;
        }
    };
    let data_start = LENGTH_BYTES + text.json.len() as u64;
    let data = Data {
        file: name,
        start: data_start,
        size: text.file_size - data_start,
    };
    let (entries, unusable) = entries(&text.json, &data, faults)?;
    Some(Header {
        data_start,
        entries,
        unusable,
    })
}

/// The bytes after a header.
struct Data<'a> {
    file: &'a str,
    start: u64,
    size: u64,
}

struct Text {
    json: Vec<u8>,
    file_size: u64,
}

/// Reads the JSON text of a header; the inner error is the file's fault, the outer the system's.
fn text(file: &File) -> io::Result<Result<Text, What>> {
    let file_size = file.metadata()?.len();
    let truncated = |needed| {
        Ok(Err(What::HeaderTruncated {
            size: file_size,
            needed,
        }))
    };
    if file_size < LENGTH_BYTES {
        return truncated(LENGTH_BYTES);
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        let limit = MAX_HEADER_BYTES;
        return Ok(Err(What::HeaderLength { length, limit }));
    }
    if LENGTH_BYTES + length > file_size {
        return truncated(LENGTH_BYTES + length);
    }
    let mut json = vec![0; length as usize];
    file.read_exact_at(&mut json, LENGTH_BYTES)?;
    Ok(Ok(Text { json, file_size }))
}

/// Takes a header apart: its usable entries, and the names of the others.
fn entries(
    json: &[u8],
    data: &Data<'_>,
    faults: &mut Vec<Fault>,
) -> Option<(Vec<Entry>, Vec<String>)> {
    let file = data.file;
    let value = match json::parse(json) {
        Ok(value) => value,
        Err(error) => {
            let why = error.to_string();
            faults.push(Fault::file(file, What::Json { why }));
            return None;
        }
    };
    let Value::Object(map) = value else {
        let what = malformed("header", "an object", &value);
        faults.push(Fault::file(file, what));
        return None;
    };
    let mut entries = Vec::with_capacity(map.len());
    let mut unusable = Vec::new();
    for (name, value) in map.iter().filter(|(name, _)| *name != METADATA) {
        match entry(name, value) {
            Ok(entry) => entries.push(entry),
            Err(what) => {
                faults.push(Fault::tensor(file, name, what));
                unusable.push(name.clone());
            }
        }
    }
    // Where a tensor's place is unknown, gaps would only be its echo.
    if unusable.is_empty() {
        check_cover(&entries, data, faults);
    }
    Some((entries, unusable))
}

fn malformed(key: &str, expected: &str, found: &Value) -> What {
    What::Key {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: json::excerpt(found),
    }
}

/// Reads one tensor's entry and checks that its offsets fit its shape.
fn entry(name: &str, value: &Value) -> Result<Entry, What> {
    let member = |key: &str| {
        value.get(key).ok_or_else(|| What::KeyMissing {
            key: key.to_owned(),
        })
    };
    let dtype = member("dtype")?;
    let dtype = dtype
        .as_str()
        .ok_or_else(|| malformed("dtype", "a name", dtype))?;
    let shape = numbers("shape", member("shape")?)?;
    let offsets = numbers("data_offsets", member("data_offsets")?)?;
    let [from, to] = offsets[..] else {
        return Err(malformed(
            "data_offsets",
            "two numbers",
            member("data_offsets")?,
        ));
    };
    if from > to {
        return Err(malformed(
            "data_offsets",
            "the start before the end",
            member("data_offsets")?,
        ));
    }
    if let Some(size) = element_bytes(dtype) {
        let expected = shape
            .iter()
            .try_fold(size, |bytes, side| bytes.checked_mul(u128::from(*side)))
            .unwrap_or(u128::MAX);
        if expected != u128::from(to - from) {
            return Err(What::Length {
                shape,
                dtype: dtype.to_owned(),
                expected,
                found: to - from,
            });
        }
    }
    Ok(Entry {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
        shape,
        range: from..to,
    })
}

fn numbers(key: &str, value: &Value) -> Result<Vec<u64>, What> {
    let list = value
        .as_array()
        .and_then(|list| list.iter().map(Value::as_u64).collect());
    list.ok_or_else(|| malformed(key, "a list of whole numbers", value))
}

/// Returns the bytes of an element by the format's name for its type; `None` for types of which
/// several share a byte or that are not known here, whose bytes are not counted.
fn element_bytes(dtype: &str) -> Option<u128> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => Some(1),
        "I16" | "U16" | "F16" | "BF16" => Some(2),
        "I32" | "U32" | "F32" => Some(4),
        "I64" | "U64" | "F64" => Some(8),
        _ => None,
    }
}

/// Checks that the tensors cover the data without gaps and without sharing bytes, and that the
/// file holds them all.
fn check_cover(entries: &[Entry], data: &Data<'_>, faults: &mut Vec<Fault>) {
    let before = faults.len();
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let mut end = 0;
    // The tensor that reaches farthest so far: the one to name when another begins before `end`.
    let mut farthest: Option<&Entry> = None;
    for entry in &sorted {
        let range = &entry.range;
        if range.start > end {
            let (from, to) = (end, range.start);
            faults.push(Fault::file(data.file, What::Gap { from, to }));
        }
        if let Some(other) = farthest
            && range.start < end.min(range.end)
        {
            let what = What::Overlap {
                other: other.name.clone(),
                from: range.start,
                to: range.end.min(end),
            };
            faults.push(Fault::tensor(data.file, &entry.name, what));
        }
        if range.end > end {
            end = range.end;
            farthest = Some(entry);
        }
    }
    if end != data.size && (end < data.size || faults.len() == before) {
        let expected = data.start.saturating_add(end);
        let found = data.start + data.size;
        faults.push(Fault::file(data.file, What::FileSize { expected, found }));
    } else if end > data.size {
        // The tensors contradict each other already, so name those that cannot be there.
        for entry in sorted.iter().filter(|entry| entry.range.end > data.size) {
            let what = What::OutOfRange {
                from: entry.range.start,
                to: entry.range.end,
                available: data.size,
            };
            faults.push(Fault::tensor(data.file, &entry.name, what));
        }
    }
}
