//! The text of system and developer messages.

use super::message::{Channel, DeveloperContent, Namespace, SystemContent};
use super::typescript::type_of;

/// Returns the text of a system message.
///
/// `with_functions`: whether some developer message offers functions; the model is then told on
/// which channel to call them.
pub(super) fn system(content: &SystemContent, with_functions: bool) -> String {
    let labelled = |label: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("{label}: {value}"))
    };
    let top: Vec<String> = [
        content.identity.clone(),
        labelled("Knowledge cutoff", &content.knowledge_cutoff),
        labelled("Current date", &content.date),
    ]
    .into_iter()
    .flatten()
    .collect();

    let mut sections = Vec::new();
    if !top.is_empty() {
        sections.push(top.join("\n"));
    }
    if let Some(effort) = content.effort {
        sections.push(format!("Reasoning: {}", effort.as_str()));
    }
    if !content.tools.is_empty() {
        sections.push(tools(&content.tools));
    }
    if !content.channels.is_empty() {
        let names: Vec<&str> = content.channels.iter().map(Channel::as_str).collect();
        let mut section = format!("# Valid channels: {}.", names.join(", "));
        if content.channel_required {
            section.push_str(" Channel must be included for every message.");
        }
        if with_functions {
            section
                .push_str("\nCalls to these tools must go to the commentary channel: 'functions'.");
        }
        sections.push(section);
    }
    sections.join("\n\n")
}

/// Returns the text of a developer message.
pub(super) fn developer(content: &DeveloperContent) -> String {
    let mut sections = Vec::new();
    if let Some(instructions) = &content.instructions {
        sections.push("# Instructions".to_owned());
        sections.push(instructions.clone());
    }
    if !content.tools.is_empty() {
        sections.push(tools(&content.tools));
    }
    sections.join("\n\n")
}

/// Returns the section that declares tools; namespaces are ordered by name, functions are not.
fn tools(namespaces: &[Namespace]) -> String {
    let mut sorted: Vec<&Namespace> = namespaces.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sections = vec!["# Tools".to_owned()];
    sections.extend(sorted.into_iter().map(namespace));
    sections.join("\n\n")
}

fn namespace(namespace: &Namespace) -> String {
    let Namespace {
        name,
        description,
        functions,
    } = namespace;
    let mut lines = vec![format!("## {name}\n")];
    let about = description.as_deref().unwrap_or_default().lines();
    if functions.is_empty() {
        lines.extend(about.map(str::to_owned));
        return lines.join("\n");
    }
    lines.extend(about.map(comment));
    lines.push(format!("namespace {name} {{\n"));
    for function in functions {
        lines.extend(function.description.lines().map(comment));
        let arguments = match &function.parameters {
            Some(schema) => format!("_: {}", type_of(schema.as_json(), "")),
            None => String::new(),
        };
        lines.push(format!("type {} = ({arguments}) => any;\n", function.name));
    }
    lines.push(format!("}} // namespace {name}"));
    lines.join("\n")
}

/// An empty line becomes `// `, with its blank.
fn comment(line: &str) -> String {
    format!("// {line}")
}
