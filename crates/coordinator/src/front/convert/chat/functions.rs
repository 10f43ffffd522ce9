//! The functions that a request offers to the model, checked.

use std::collections::HashSet;

use proto::v1;
use serde_json::Value;
use tokenizer::harmony::{Function, Schema};

use crate::front::error::Error;
use crate::front::limits;

/// Checks the functions of a request.
///
/// # Errors
///
/// The first field at fault, as `tools[3].name`.
pub(super) fn functions(tools: Vec<v1::FunctionTool>) -> Result<Vec<Function>, Error> {
    if tools.len() > limits::MAX_TOOLS {
        return Err(Error::field(
            "tools",
            format!("at most {} are taken", limits::MAX_TOOLS),
        ));
    }
    let mut names = HashSet::new();
    let mut schema_bytes = 0;
    let check = |(index, tool): (usize, v1::FunctionTool)| {
        let field = |name: &str| format!("tools[{index}].{name}");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=64).contains(&tool.name.len()) || !tool.name.bytes().all(is_name) {
            let why = "must be 1 to 64 letters, digits, '_' or '-'";
            return Err(Error::field(field("name"), why));
        }
        if !names.insert(tool.name.clone()) {
            return Err(Error::field(
                field("name"),
                format!("{} is given twice", tool.name),
            ));
        }
        if tool.strict {
            let why = "arguments cannot be constrained yet";
            return Err(Error::unsupported(field("strict"), why));
        }
        schema_bytes += tool.parameters_json.len();
        if schema_bytes > limits::MAX_SCHEMA_BYTES {
            let why = format!(
                "with {} the schemas have {schema_bytes} bytes together, at most {} are taken",
                tool.name,
                limits::MAX_SCHEMA_BYTES
            );
            return Err(Error::field(field("parameters_json"), why));
        }
        let parameters = parameters(&tool.parameters_json).map_err(|why| {
            let why = format!("of {}: {why}", tool.name);
            Error::field(field("parameters_json"), why)
        })?;
        Ok(Function {
            name: tool.name,
            description: tool.description,
            parameters,
        })
    };
    tools.into_iter().enumerate().map(check).collect()
}

/// Reads a function's schema; the error says what is wrong with it.
fn parameters(json: &str) -> Result<Option<Schema>, String> {
    if json.is_empty() {
        return Ok(None);
    }
    let schema = Schema::parse(json).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"))
    })?;
    let depth = depth(schema.as_json());
    if depth > limits::MAX_SCHEMA_DEPTH {
        return Err(format!(
            "the schema is nested {depth} deep, at most {} are taken",
            limits::MAX_SCHEMA_DEPTH
        ));
    }
    Ok(Some(schema))
}

/// Returns how many objects and lists are inside each other; the parser has bounded the recursion.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::{functions, limits};

    fn tools(schemas: &[&str]) -> Vec<v1::FunctionTool> {
        let tool = |(index, schema): (usize, &&str)| v1::FunctionTool {
            name: format!("f{index}"),
            parameters_json: (*schema).to_owned(),
            ..Default::default()
        };
        schemas.iter().enumerate().map(tool).collect()
    }

    fn nested(depth: usize) -> String {
        format!("{}1{}", r#"{"not":"#.repeat(depth), "}".repeat(depth))
    }

    #[test]
    fn refuses_a_schema_that_is_nested_too_deep() {
        let (deepest, deeper) = (
            nested(limits::MAX_SCHEMA_DEPTH),
            nested(limits::MAX_SCHEMA_DEPTH + 1),
        );
        assert!(functions(tools(&[&deepest])).is_ok());
        let error = functions(tools(&["{}", &deeper])).unwrap_err();
        assert_eq!(error.at_field(), Some("tools[1].parameters_json"));
        assert!(error.to_string().contains("f1"), "{error}");
    }

    #[test]
    fn refuses_schemas_that_are_too_long_together() {
        let half = format!("{{{}}}", " ".repeat(limits::MAX_SCHEMA_BYTES / 2 - 2));
        assert!(functions(tools(&[&half, &half])).is_ok());
        let error = functions(tools(&[&half, &half, "{}"])).unwrap_err();
        assert_eq!(error.at_field(), Some("tools[2].parameters_json"));
        assert!(error.to_string().contains("f2"), "{error}");
    }
}
