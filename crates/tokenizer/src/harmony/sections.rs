//! The text of system and developer messages.

use super::message::{Channel, DeveloperContent, Namespace, SystemContent};
use super::typescript::push_type;

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
        let mut section = String::new();
        push_tools(&mut section, &content.tools);
        sections.push(section);
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
    let mut out = String::new();
    if let Some(instructions) = &content.instructions {
        out.extend(["# Instructions\n\n", instructions]);
    }
    if !content.tools.is_empty() {
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        push_tools(&mut out, &content.tools);
    }
    out
}

/// Appends the section that declares tools; namespaces are ordered by name, functions are not.
fn push_tools(out: &mut String, namespaces: &[Namespace]) {
    let mut sorted: Vec<&Namespace> = namespaces.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    out.push_str("# Tools");
    for namespace in sorted {
        out.push_str("\n\n");
        push_namespace(out, namespace);
    }
}

fn push_namespace(out: &mut String, namespace: &Namespace) {
    let Namespace {
        name,
        description,
        functions,
    } = namespace;
    out.extend(["## ", name, "\n"]);
    let about = description.as_deref().unwrap_or_default();
    if functions.is_empty() {
        out.extend(about.lines().flat_map(|line| ["\n", line]));
        return;
    }
    push_comments(out, about);
    out.extend(["\nnamespace ", name, " {\n"]);
    for function in functions {
        push_comments(out, &function.description);
        out.extend(["\ntype ", &function.name, " = ("]);
        if let Some(schema) = &function.parameters {
            out.push_str("_: ");
            push_type(out, schema.as_json());
        }
        out.push_str(") => any;\n");
    }
    out.extend(["\n} // namespace ", name]);
}

/// Appends each line as a comment. An empty line becomes `// `, with its blank.
fn push_comments(out: &mut String, text: &str) {
    out.extend(text.lines().flat_map(|line| ["\n// ", line]));
}
