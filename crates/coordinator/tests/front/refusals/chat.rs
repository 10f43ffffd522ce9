//! Fields of a chat, and of its rendering.

use proto::v1::tokenizer_service_client::TokenizerServiceClient;
use proto::v1::{self, Role};
use tonic::Code;

use super::{Case, check, stage};
use crate::chat::{self, message};

fn with(messages: Vec<v1::Message>) -> v1::ChatRequest {
    v1::ChatRequest {
        messages,
        ..Default::default()
    }
}

fn tool(name: &str) -> v1::FunctionTool {
    v1::FunctionTool {
        name: name.into(),
        ..Default::default()
    }
}

fn message_cases() -> Vec<Case<v1::ChatRequest>> {
    let user = || message(Role::User, "x");
    let named = |role| v1::Message {
        name: "ann".into(),
        ..message(role, "x")
    };
    let to = |recipient: &str| v1::Message {
        recipient: recipient.into(),
        ..message(Role::Assistant, "{}")
    };
    vec![
        ("no message", with(Vec::new()), "messages"),
        (
            "only instructions",
            with(vec![message(Role::System, "x")]),
            "messages",
        ),
        (
            "no role",
            with(vec![user(), message(Role::Unspecified, "x")]),
            "messages[1].role",
        ),
        (
            "an unknown role",
            with(vec![v1::Message { role: 9, ..user() }]),
            "messages[0].role",
        ),
        (
            "a user on a channel",
            with(vec![v1::Message {
                channel: 3,
                ..user()
            }]),
            "messages[0].channel",
        ),
        (
            "a recipient of two words",
            with(vec![to("a b")]),
            "messages[0].recipient",
        ),
        (
            "a control token as recipient",
            with(vec![to("a<|end|>")]),
            "messages[0].recipient",
        ),
        (
            "a developer with a name",
            with(vec![named(Role::Developer), user()]),
            "messages[0].name",
        ),
        (
            "a system message with a name later on",
            with(vec![user(), named(Role::System)]),
            "messages[1].name",
        ),
        ("a long conversation", with(vec![user(); 4097]), "messages"),
    ]
}

fn tool_message_cases() -> Vec<Case<v1::ChatRequest>> {
    let tool = |name: &str, call: &str| v1::Message {
        name: name.into(),
        tool_call_id: call.into(),
        ..message(Role::Tool, "x")
    };
    let call = v1::Message {
        recipient: "developer:x".into(),
        tool_call_id: "c".into(),
        ..message(Role::Assistant, "{}")
    };
    vec![
        (
            "a nameless tool",
            with(vec![message(Role::User, "x"), message(Role::Tool, "x")]),
            "messages[1].name",
        ),
        (
            "a tool with the name of a role",
            with(vec![message(Role::User, "x"), tool("system", "")]),
            "messages[1].name",
        ),
        (
            "a tool that is called as a role",
            with(vec![call, tool("", "c")]),
            "messages[1].tool_call_id",
        ),
        (
            "an answer to no call",
            with(vec![tool("functions.f", "call_9")]),
            "messages[0].tool_call_id",
        ),
    ]
}

fn long_cases() -> Vec<Case<v1::ChatRequest>> {
    vec![
        (
            "a conversation longer than the context",
            chat::request(&"word ".repeat(5000)),
            "messages",
        ),
        (
            "a conversation that certainly is longer than the context",
            chat::request(&"word ".repeat(100_000)),
            "messages",
        ),
    ]
}

fn chat_cases() -> Vec<Case<v1::ChatRequest>> {
    let ask = || chat::request("x");
    let parameters = |json: &str| v1::ChatRequest {
        tools: vec![v1::FunctionTool {
            parameters_json: json.into(),
            ..tool("f")
        }],
        ..ask()
    };
    let tools = |tools| v1::ChatRequest { tools, ..ask() };
    vec![
        (
            "a function without a name",
            tools(vec![tool("")]),
            "tools[0].name",
        ),
        (
            "a function of two words",
            tools(vec![tool("a b")]),
            "tools[0].name",
        ),
        (
            "one function twice",
            tools(vec![tool("a"), tool("a")]),
            "tools[1].name",
        ),
        ("many functions", tools(vec![tool("a"); 129]), "tools"),
        (
            "a schema that is no JSON",
            parameters("{"),
            "tools[0].parameters_json",
        ),
        (
            "a schema that is no object",
            parameters("[1]"),
            "tools[0].parameters_json",
        ),
        (
            "a schema nested too deep",
            parameters(&format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33))),
            "tools[0].parameters_json",
        ),
        (
            "a schema that is too long",
            parameters(&format!("{{{}}}", " ".repeat(256 << 10))),
            "tools[0].parameters_json",
        ),
    ]
}

fn other_chat_cases() -> Vec<Case<v1::ChatRequest>> {
    let ask = || chat::request("x");
    let name = v1::ToolChoice {
        mode: 0,
        name: "f".into(),
    };
    vec![
        (
            "a tool choice without its mode",
            v1::ChatRequest {
                tool_choice: Some(name),
                ..ask()
            },
            "tool_choice.name",
        ),
        (
            "an effort of the future",
            v1::ChatRequest {
                reasoning_effort: 8,
                ..ask()
            },
            "reasoning_effort",
        ),
        (
            "logprobs of a rendered prompt",
            v1::ChatRequest {
                logprobs: Some(v1::LogprobParams {
                    prompt: true,
                    ..Default::default()
                }),
                ..ask()
            },
            "logprobs.prompt",
        ),
        (
            "a date in words",
            v1::ChatRequest {
                conversation_date: "28 June".into(),
                ..ask()
            },
            "conversation_date",
        ),
    ]
}

#[tokio::test]
async fn bad_chat_requests_are_refused_by_field() {
    let stage = stage().await;
    let messages = [message_cases(), tool_message_cases(), long_cases()];
    let cases = messages
        .into_iter()
        .chain([chat_cases(), other_chat_cases()]);
    for (name, request, field) in cases.flatten() {
        let status = stage.client().chat(request.clone()).await.expect_err(name);
        check(name, &status, Code::InvalidArgument, field);
        let mut tokenizer = TokenizerServiceClient::new(stage.grpc.clone());
        let render = v1::RenderChatRequest {
            request: Some(request),
        };
        let status = tokenizer.render_chat(render).await.expect_err(name);
        check(
            name,
            &status,
            Code::InvalidArgument,
            &format!("request.{field}"),
        );
    }
}

#[tokio::test]
async fn chat_features_that_do_not_exist_are_refused_by_field() {
    let stage = stage().await;
    let ask = || chat::request("x");
    let choice = |mode: v1::ToolChoiceMode| v1::ChatRequest {
        tool_choice: Some(v1::ToolChoice {
            mode: mode.into(),
            name: String::new(),
        }),
        ..ask()
    };
    let strict = vec![v1::FunctionTool {
        strict: true,
        ..tool("f")
    }];
    let cases = [
        (choice(v1::ToolChoiceMode::Required), "tool_choice.mode"),
        (choice(v1::ToolChoiceMode::Named), "tool_choice.mode"),
        (
            v1::ChatRequest {
                tools: strict,
                ..ask()
            },
            "tools[0].strict",
        ),
    ];
    for (request, field) in cases {
        let status = stage.client().chat(request).await.expect_err(field);
        check(field, &status, Code::Unimplemented, field);
    }
}
