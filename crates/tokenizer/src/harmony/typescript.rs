//! JSON Schema to the TypeScript-like types that gpt-oss was trained on.
//!
//! The model saw exactly what `json_schema_to_typescript` of openai/harmony (src/encoding.rs)
//! writes, so its odd corners are kept: a described nested object shows its description twice,
//! a line break inside a description is not commented, unions indent by three blanks.

use std::io;

use serde::Serialize as _;
use serde_json::ser::Formatter;
use serde_json::{Serializer, Value};

/// Returns the type of a schema. Members of an object are indented by `indent`.
pub(super) fn type_of(schema: &Value, indent: &str) -> String {
    if let Some(variants) = list(schema, "oneOf") {
        return union(variants, indent);
    }
    match schema.get("type") {
        Some(Value::Array(types)) => either(types),
        Some(Value::String(name)) => match name.as_str() {
            "object" => object(schema, indent),
            "string" => literals(schema),
            "number" | "integer" => "number".to_owned(),
            "boolean" => "boolean".to_owned(),
            "array" => match schema.get("items") {
                Some(items) => type_of(items, indent) + "[]",
                None => "Array<any>".to_owned(),
            },
            _ => ANY.to_owned(),
        },
        _ => ANY.to_owned(),
    }
}

const ANY: &str = "any";

/// A list of type names.
fn either(types: &[Value]) -> String {
    let names: Vec<&str> = types
        .iter()
        .filter_map(Value::as_str)
        .map(|name| if name == "integer" { "number" } else { name })
        .collect();
    if names.is_empty() {
        ANY.to_owned()
    } else {
        names.join(" | ")
    }
}

/// A string, or its permitted values.
fn literals(schema: &Value) -> String {
    let values: Vec<String> = list(schema, "enum")
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|value| format!("\"{value}\""))
        .collect();
    if values.is_empty() {
        "string".to_owned()
    } else {
        values.join(" | ")
    }
}

/// A `oneOf` that is not a property's: begins on a line of its own.
fn union(variants: &[Value], indent: &str) -> String {
    let mut out = String::new();
    for variant in variants {
        out.push_str(&format!(
            "\n{indent} | {}",
            nullable_type_of(variant, &deeper(indent, 3))
        ));
        let mut notes: Vec<String> = text(variant, "description")
            .map(str::to_owned)
            .into_iter()
            .collect();
        notes.extend(
            variant
                .get("default")
                .map(|default| match default.as_str() {
                    Some(text) if !is_enum(variant) => format!("default: \"{text}\""),
                    _ => format!("default: {}", compact(default)),
                }),
        );
        push_notes(&mut out, &notes);
    }
    out
}

fn object(schema: &Value, indent: &str) -> String {
    let mut out = String::new();
    if let Some(description) = text(schema, "description") {
        out.push_str(&format!("{indent}// {description}\n"));
    }
    out.push_str("{\n");
    let required: Vec<&str> = list(schema, "required")
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, value) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let mark = if required.contains(&name.as_str()) {
            ""
        } else {
            "?"
        };
        property(&mut out, &format!("{name}{mark}"), value, indent);
    }
    out.push_str(&format!("{indent}}}"));
    out
}

/// Writes a property and the comments around it.
fn property(out: &mut String, name: &str, schema: &Value, indent: &str) {
    let has_union = schema.get("oneOf").is_some();
    if let Some(title) = text(schema, "title") {
        out.push_str(&format!("{indent}// {title}\n{indent}//\n"));
    }
    if let (false, Some(description)) = (has_union, text(schema, "description")) {
        out.push_str(&format!("{indent}// {description}\n"));
    }
    if let Some(examples) = list(schema, "examples").filter(|examples| !examples.is_empty()) {
        out.push_str(&format!("{indent}// Examples:\n"));
        for example in examples.iter().filter_map(Value::as_str) {
            out.push_str(&format!("{indent}// - \"{example}\"\n"));
        }
    }
    if let Some(variants) = list(schema, "oneOf") {
        return union_property(out, name, schema, variants, indent);
    }
    out.push_str(&format!(
        "{indent}{name}: {},",
        nullable_type_of(schema, &deeper(indent, 4))
    ));
    if let (false, Some(default)) = (has_union, default_of(schema)) {
        out.push_str(&format!(" // default: {default}"));
    }
    out.push('\n');
}

/// Writes a property that has a `oneOf`: a line for each variant.
fn union_property(out: &mut String, name: &str, schema: &Value, variants: &[Value], indent: &str) {
    let description = text(schema, "description");
    let first = variants
        .first()
        .and_then(|variant| text(variant, "description"));
    // The same words for the property and its first variant are written nowhere.
    let above = description.filter(|_| description != first);
    if let Some(description) = above {
        out.push_str(&format!("{indent}// {description}\n"));
    }
    if let Some(default) = default_of(schema) {
        out.push_str(&format!("{indent}// default: {default}\n"));
    }
    out.push_str(&format!("{indent}{name}:\n"));
    for (i, variant) in variants.iter().enumerate() {
        out.push_str(&format!(
            "{indent} | {}",
            nullable_type_of(variant, &deeper(indent, 3))
        ));
        let told = text(variant, "description")
            .filter(|_| !(i == 0 && above.is_some()))
            .filter(|told| Some(*told) != description);
        let mut notes: Vec<String> = told.map(str::to_owned).into_iter().collect();
        notes.extend(default_of(variant).map(|default| format!("default: {default}")));
        push_notes(out, &notes);
        out.push('\n');
    }
    out.push_str(&format!("{indent},\n"));
}

fn push_notes(out: &mut String, notes: &[String]) {
    if !notes.is_empty() {
        out.push_str(&format!(" // {}", notes.join(" ")));
    }
}

/// Returns the type, with ` | null` if the schema is nullable and the type does not say so.
fn nullable_type_of(schema: &Value, indent: &str) -> String {
    let mut out = type_of(schema, indent);
    if schema.get("nullable").and_then(Value::as_bool) == Some(true) && !out.contains("null") {
        out.push_str(" | null");
    }
    out
}

/// Returns the default as written in a comment: a text is quoted unless it is an enum's.
fn default_of(schema: &Value) -> Option<String> {
    let default = schema.get("default")?;
    Some(match default.as_str() {
        Some(text) if is_enum(schema) => text.to_owned(),
        Some(text) => format!("\"{text}\""),
        None => compact(default),
    })
}

/// Returns a value as JSON without blanks.
fn compact(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PlainExponents);
    value
        .serialize(&mut serializer)
        .expect("a JSON value can be written to memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Writes `1e20` as the model saw it, where newer versions of serde_json write `1e+20`.
struct PlainExponents;

impl Formatter for PlainExponents {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = Value::from(value).to_string();
        writer.write_all(text.replace("e+", "e").as_bytes())
    }
}

fn is_enum(schema: &Value) -> bool {
    list(schema, "enum").is_some_and(|values| !values.is_empty())
}

fn list<'a>(schema: &'a Value, key: &str) -> Option<&'a [Value]> {
    schema.get(key)?.as_array().map(Vec::as_slice)
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key)?.as_str()
}

fn deeper(indent: &str, by: usize) -> String {
    format!("{indent}{:by$}", "")
}
