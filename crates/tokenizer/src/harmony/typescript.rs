//! JSON Schema to the TypeScript-like types that gpt-oss was trained on.
//!
//! The model saw exactly what `json_schema_to_typescript` of openai/harmony (src/encoding.rs)
//! writes, so its odd corners are kept: a described nested object shows its description twice,
//! a line break inside a description is not commented, unions indent by three blanks.
//!
//! A schema comes from a client, so the time is linear in what is written, and nothing is written
//! twice. What is written may still be 40 times the schema: a small property that lies 60 objects
//! deep is indented by 240 blanks.

use std::collections::HashSet;
use std::io;

use serde::Serialize as _;
use serde_json::ser::Formatter;
use serde_json::{Serializer, Value};

/// Appends the type of a schema.
pub(super) fn push_type(out: &mut String, schema: &Value) {
    let last_null = LastNull::default();
    Writer { out, last_null }.type_of(schema, 0);
}

const ANY: &str = "any";

/// Writes types at the end of a text. Members of an object are indented by `indent` blanks.
struct Writer<'a> {
    out: &'a mut String,
    last_null: LastNull,
}

impl Writer<'_> {
    fn push(&mut self, texts: &[&str]) {
        self.out.extend(texts.iter().copied());
    }

    /// Begins a line.
    fn push_indented(&mut self, indent: usize, texts: &[&str]) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.push(texts);
    }

    fn type_of(&mut self, schema: &Value, indent: usize) {
        if let Some(variants) = list(schema, "oneOf") {
            return self.union(variants, indent);
        }
        match schema.get("type") {
            Some(Value::Array(types)) => self.either(types),
            Some(Value::String(name)) => match name.as_str() {
                "object" => self.object(schema, indent),
                "string" => self.literals(schema),
                "number" | "integer" => self.push(&["number"]),
                "boolean" => self.push(&["boolean"]),
                "array" => match schema.get("items") {
                    Some(items) => {
                        self.type_of(items, indent);
                        self.push(&["[]"]);
                    }
                    None => self.push(&["Array<any>"]),
                },
                _ => self.push(&[ANY]),
            },
            _ => self.push(&[ANY]),
        }
    }

    /// A list of type names.
    fn either(&mut self, types: &[Value]) {
        let mut divider = "";
        for name in types.iter().filter_map(Value::as_str) {
            let name = if name == "integer" { "number" } else { name };
            self.push(&[divider, name]);
            divider = " | ";
        }
        if divider.is_empty() {
            self.push(&[ANY]);
        }
    }

    /// A string, or its permitted values.
    fn literals(&mut self, schema: &Value) {
        let mut divider = "";
        let values = list(schema, "enum").into_iter().flatten();
        for value in values.filter_map(Value::as_str) {
            self.push(&[divider, "\"", value, "\""]);
            divider = " | ";
        }
        if divider.is_empty() {
            self.push(&["string"]);
        }
    }

    /// A `oneOf` that is not a property's: begins on a line of its own.
    fn union(&mut self, variants: &[Value], indent: usize) {
        for variant in variants {
            self.push(&["\n"]);
            self.push_indented(indent, &[" | "]);
            self.nullable_type_of(variant, indent + 3);
            let default = variant
                .get("default")
                .map(|default| match default.as_str() {
                    Some(text) if !is_enum(variant) => format!("\"{text}\""),
                    _ => compact(default),
                });
            self.notes(text(variant, "description"), default);
        }
    }

    fn object(&mut self, schema: &Value, indent: usize) {
        if let Some(description) = text(schema, "description") {
            self.push_indented(indent, &["// ", description, "\n"]);
        }
        self.push(&["{\n"]);
        let required: HashSet<&str> = list(schema, "required")
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, value) in properties.into_iter().flatten() {
            let mark = if required.contains(name.as_str()) {
                ""
            } else {
                "?"
            };
            self.property([name, mark], value, indent);
        }
        self.push_indented(indent, &["}"]);
    }

    /// Writes a property and the comments around it.
    fn property(&mut self, name: [&str; 2], schema: &Value, indent: usize) {
        let variants = list(schema, "oneOf");
        let has_union = schema.get("oneOf").is_some();
        if let Some(title) = text(schema, "title") {
            self.push_indented(indent, &["// ", title, "\n"]);
            self.push_indented(indent, &["//\n"]);
        }
        if let (false, Some(description)) = (has_union, text(schema, "description")) {
            self.push_indented(indent, &["// ", description, "\n"]);
        }
        if let Some(examples) = list(schema, "examples").filter(|examples| !examples.is_empty()) {
            self.push_indented(indent, &["// Examples:\n"]);
            for example in examples.iter().filter_map(Value::as_str) {
                self.push_indented(indent, &["// - \"", example, "\"\n"]);
            }
        }
        if let Some(variants) = variants {
            return self.union_property(name, schema, variants, indent);
        }
        self.push_indented(indent, &[name[0], name[1], ": "]);
        self.nullable_type_of(schema, indent + 4);
        self.push(&[","]);
        if let (false, Some(default)) = (has_union, default_of(schema)) {
            self.push(&[" // default: ", &default]);
        }
        self.push(&["\n"]);
    }

    /// Writes a property that has a `oneOf`: a line for each variant.
    fn union_property(
        &mut self,
        name: [&str; 2],
        schema: &Value,
        variants: &[Value],
        indent: usize,
    ) {
        let description = text(schema, "description");
        let first = variants
            .first()
            .and_then(|variant| text(variant, "description"));
        // The same words for the property and its first variant are written nowhere.
        let above = description.filter(|_| description != first);
        if let Some(description) = above {
            self.push_indented(indent, &["// ", description, "\n"]);
        }
        if let Some(default) = default_of(schema) {
            self.push_indented(indent, &["// default: ", &default, "\n"]);
        }
        self.push_indented(indent, &[name[0], name[1], ":\n"]);
        for (i, variant) in variants.iter().enumerate() {
            self.push_indented(indent, &[" | "]);
            self.nullable_type_of(variant, indent + 3);
            let told = text(variant, "description")
                .filter(|_| !(i == 0 && above.is_some()))
                .filter(|told| Some(*told) != description);
            self.notes(told, default_of(variant));
            self.push(&["\n"]);
        }
        self.push_indented(indent, &[",\n"]);
    }

    /// Writes what is said of a variant behind it.
    fn notes(&mut self, told: Option<&str>, default: Option<String>) {
        if told.is_none() && default.is_none() {
            return;
        }
        self.push(&[" //"]);
        if let Some(told) = told {
            self.push(&[" ", told]);
        }
        if let Some(default) = default {
            self.push(&[" default: ", &default]);
        }
    }

    /// Writes the type, with ` | null` if the schema is nullable and the type does not say so.
    fn nullable_type_of(&mut self, schema: &Value, indent: usize) {
        let start = self.out.len();
        self.type_of(schema, indent);
        let is_nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
        if is_nullable && !self.last_null.is_at_or_after(start, self.out) {
            self.push(&[" | null"]);
        }
    }
}

/// Where `null` stands last in a growing text, of which no part is searched twice.
#[derive(Default)]
struct LastNull {
    searched: usize,
    found: Option<usize>,
}

impl LastNull {
    fn is_at_or_after(&mut self, start: usize, text: &str) -> bool {
        const NULL: &str = "null";
        // What was searched may end within the word.
        let from = text.floor_char_boundary(self.searched.saturating_sub(NULL.len() - 1));
        if let Some(at) = text[from..].rfind(NULL) {
            self.found = Some(from + at);
        }
        self.searched = text.len();
        self.found.is_some_and(|at| at >= start)
    }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Map, Value, json};

    use super::push_type;

    /// As the rendering tests compare short schemas with the library, this compares time only.
    #[test]
    fn writes_in_time_that_grows_with_the_schema() {
        // Looking for each of 100,000 names in the list of those required would take minutes.
        let names: Vec<String> = (0..100_000).map(|i| format!("a_property_{i}")).collect();
        let any = |name: &String| (name.clone(), json!({}));
        let properties: Map<String, Value> = names.iter().map(any).collect();
        let mut schema = json!({"type": "object", "properties": properties, "required": names});
        for _ in 0..40 {
            let mut list = json!({"type": "array", "nullable": true});
            list["items"] = schema;
            schema = json!({"type": "object", "properties": {}});
            schema["properties"]["p"] = list;
        }
        let (start, mut out) = (Instant::now(), String::new());
        push_type(&mut out, &schema);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "took {took:?}");
        assert!(out.contains(&format!("\n{:160}a_property_99999: any,\n", "")));
        // The innermost list says that it may be null, and so do all around it.
        assert_eq!(out.matches("null").count(), 1);
    }
}
