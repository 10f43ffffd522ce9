//! Every bad input is refused with its code, and its field by name.

use proto::v1::model_service_client::ModelServiceClient;
use proto::v1::tokenizer_service_client::TokenizerServiceClient;
use proto::v1::{self, Role, generate_request::Prompt};
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::chat::{self, message};
use crate::generate::request;
use crate::stage::{CONTEXT, MAX_OUTPUT, Stage, VOCAB, always, soon};

/// A stage whose lead is never asked.
async fn stage() -> Stage {
    Stage::new(|_| panic!("a bad request reached the lead")).await
}

fn check(name: &str, status: &Status, code: Code, field: &str) {
    assert_eq!(status.code(), code, "{name}: {status}");
    let violations = status
        .get_details_bad_request()
        .expect(name)
        .field_violations;
    assert_eq!(violations[0].field, field, "{name}");
    assert!(
        status.message().starts_with(field),
        "{name}: {}",
        status.message()
    );
    let reason = status.get_details_error_info().unwrap().reason;
    let expected = if code == Code::Unimplemented {
        "FIELD_UNSUPPORTED"
    } else {
        "FIELD_INVALID"
    };
    assert_eq!(reason, expected, "{name}");
}

fn sampling(params: v1::SamplingParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        sampling: Some(params),
        ..request("x")
    }
}

fn stop(params: v1::StopParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        stop: Some(params),
        ..request("x")
    }
}

fn stream(params: v1::StreamParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        stream: Some(params),
        ..request("x")
    }
}

fn scheduling(params: v1::SchedulingParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        scheduling: Some(params),
        ..request("x")
    }
}

fn prompt(ids: Vec<u32>) -> v1::GenerateRequest {
    let prompt = Some(Prompt::TokenIds(v1::TokenIds { ids }));
    v1::GenerateRequest {
        prompt,
        ..Default::default()
    }
}

type Case<T> = (&'static str, T, &'static str);

fn sampling_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::SamplingParams::default;
    vec![
        (
            "a temperature that is no number",
            sampling(v1::SamplingParams {
                temperature: Some(f32::NAN),
                ..none()
            }),
            "sampling.temperature",
        ),
        (
            "an infinite temperature",
            sampling(v1::SamplingParams {
                temperature: Some(f32::INFINITY),
                ..none()
            }),
            "sampling.temperature",
        ),
        (
            "top_p of zero",
            sampling(v1::SamplingParams {
                top_p: Some(0.0),
                ..none()
            }),
            "sampling.top_p",
        ),
        (
            "min_p above one",
            sampling(v1::SamplingParams {
                min_p: Some(1.5),
                ..none()
            }),
            "sampling.min_p",
        ),
        (
            "a large presence penalty",
            sampling(v1::SamplingParams {
                presence_penalty: Some(-3.0),
                ..none()
            }),
            "sampling.presence_penalty",
        ),
        (
            "a frequency penalty that is no number",
            sampling(v1::SamplingParams {
                frequency_penalty: Some(f32::NAN),
                ..none()
            }),
            "sampling.frequency_penalty",
        ),
        (
            "a repetition penalty of zero",
            sampling(v1::SamplingParams {
                repetition_penalty: Some(0.0),
                ..none()
            }),
            "sampling.repetition_penalty",
        ),
        (
            "a bias of a token outside the vocabulary",
            sampling(v1::SamplingParams {
                logit_bias: [(VOCAB, 1.0)].into(),
                ..none()
            }),
            "sampling.logit_bias",
        ),
        (
            "too many biases",
            sampling(v1::SamplingParams {
                logit_bias: (0..1025).map(|token| (token, 1.0)).collect(),
                ..none()
            }),
            "sampling.logit_bias",
        ),
    ]
}

fn stop_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::StopParams::default;
    let sequences = |stop_sequences| {
        stop(v1::StopParams {
            stop_sequences,
            ..none()
        })
    };
    vec![
        (
            "an empty stop sequence",
            sequences(vec!["a".into(), "".into()]),
            "stop.stop_sequences[1]",
        ),
        (
            "a long stop sequence",
            sequences(vec!["a".repeat(1025)]),
            "stop.stop_sequences[0]",
        ),
        (
            "many stop sequences",
            sequences(vec!["a".into(); 17]),
            "stop.stop_sequences",
        ),
        (
            "a stop token outside the vocabulary",
            stop(v1::StopParams {
                stop_token_ids: vec![1, VOCAB],
                ..none()
            }),
            "stop.stop_token_ids[1]",
        ),
        (
            "many stop tokens",
            stop(v1::StopParams {
                stop_token_ids: vec![1; 129],
                ..none()
            }),
            "stop.stop_token_ids",
        ),
        (
            "more output than the context has room for",
            stop(v1::StopParams {
                max_output_tokens: Some(CONTEXT),
                ..none()
            }),
            "stop.max_output_tokens",
        ),
    ]
}

fn other_cases() -> Vec<Case<v1::GenerateRequest>> {
    let top = |top, output| {
        let logprobs = Some(v1::LogprobParams {
            top,
            output,
            prompt: false,
        });
        v1::GenerateRequest {
            logprobs,
            ..request("x")
        }
    };
    let id = |id: &str| v1::GenerateRequest {
        request_id: id.into(),
        ..request("x")
    };
    let labels = (0..17)
        .map(|label| (label.to_string(), String::new()))
        .collect();
    vec![
        ("no prompt", v1::GenerateRequest::default(), "prompt"),
        ("an empty text", request(""), "prompt"),
        ("an empty list", prompt(Vec::new()), "prompt"),
        (
            "a token outside the vocabulary",
            prompt(vec![1, 2, VOCAB]),
            "token_ids.ids[2]",
        ),
        (
            "a prompt as long as the context",
            prompt(vec![1; CONTEXT as usize]),
            "prompt",
        ),
        (
            "a text longer than the context",
            request(&"word ".repeat(5000)),
            "prompt",
        ),
        ("21 alternatives", top(21, true), "logprobs.top"),
        ("alternatives to nothing", top(2, false), "logprobs.top"),
        ("an id with a line end", id("a\nb"), "request_id"),
        ("a long id", id(&"a".repeat(129)), "request_id"),
        (
            "many labels",
            v1::GenerateRequest {
                labels,
                ..request("x")
            },
            "labels",
        ),
        (
            "a delivery of the future",
            stream(v1::StreamParams {
                delivery: 77,
                ..Default::default()
            }),
            "stream.delivery",
        ),
        (
            "a long salt",
            scheduling(v1::SchedulingParams {
                cache_salt: "a".repeat(257),
                ..Default::default()
            }),
            "scheduling.cache_salt",
        ),
    ]
}

#[tokio::test]
async fn bad_generate_requests_are_refused_by_field() {
    let stage = stage().await;
    for (name, request, field) in [sampling_cases(), stop_cases(), other_cases()]
        .into_iter()
        .flatten()
    {
        let status = stage.client().generate(request).await.expect_err(name);
        check(name, &status, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn features_that_do_not_exist_are_refused_by_field() {
    let stage = stage().await;
    let constraint = v1::output_constraint::Constraint::Regex("a".into());
    let constraint = Some(v1::OutputConstraint {
        constraint: Some(constraint),
    });
    let request = v1::GenerateRequest {
        constraint,
        ..request("x")
    };
    let status = stage.client().generate(request).await.unwrap_err();
    check("a constraint", &status, Code::Unimplemented, "constraint");
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn delivery_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::StreamParams::default;
    let named = |params| v1::GenerateRequest {
        request_id: "n".into(),
        ..stream(params)
    };
    let keep_for = |keep_for| named(v1::StreamParams { keep_for, ..none() });
    let cancel_kept = v1::StreamParams {
        on_disconnect: v1::DisconnectPolicy::Cancel.into(),
        keep_for: seconds(3),
        ..none()
    };
    let resumed = v1::StreamParams {
        resume_after: Some(3),
        ..none()
    };
    let policy = v1::StreamParams {
        on_disconnect: 9,
        ..none()
    };
    let coalesce = |coalesce| stream(v1::StreamParams { coalesce, ..none() });
    vec![
        ("kept for no time", keep_for(seconds(0)), "stream.keep_for"),
        ("kept for less", keep_for(seconds(-1)), "stream.keep_for"),
        ("kept for ever", keep_for(seconds(601)), "stream.keep_for"),
        ("kept and not", named(cancel_kept), "stream.keep_for"),
        (
            "a policy of the future",
            named(policy),
            "stream.on_disconnect",
        ),
        (
            "resumed without a name",
            stream(resumed),
            "stream.resume_after",
        ),
        ("held for long", coalesce(seconds(6)), "stream.coalesce"),
        ("held for less", coalesce(seconds(-1)), "stream.coalesce"),
    ]
}

fn scheduling_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::SchedulingParams::default;
    let priority = |priority| scheduling(v1::SchedulingParams { priority, ..none() });
    let timeout = |queue_timeout| {
        scheduling(v1::SchedulingParams {
            queue_timeout,
            ..none()
        })
    };
    vec![
        ("a priority too high", priority(101), "scheduling.priority"),
        ("a priority too low", priority(-101), "scheduling.priority"),
        ("no time", timeout(seconds(0)), "scheduling.queue_timeout"),
        ("ages", timeout(seconds(601)), "scheduling.queue_timeout"),
        (
            "a raw generation that reasons",
            stop(v1::StopParams {
                max_reasoning_tokens: Some(5),
                ..Default::default()
            }),
            "stop.max_reasoning_tokens",
        ),
        (
            "nothing to generate",
            stop(v1::StopParams {
                max_output_tokens: Some(0),
                ..Default::default()
            }),
            "stop.max_output_tokens",
        ),
        (
            "more output than the server gives",
            stop(v1::StopParams {
                max_output_tokens: Some(MAX_OUTPUT + 1),
                ..Default::default()
            }),
            "stop.max_output_tokens",
        ),
    ]
}

#[tokio::test]
async fn bad_deliveries_and_schedules_are_refused_by_field() {
    let stage = stage().await;
    for (name, request, field) in delivery_cases().into_iter().chain(scheduling_cases()) {
        let status = stage.client().generate(request).await.expect_err(name);
        check(name, &status, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_is_refused_at_once() {
    let stage = stage().await;
    // Without a client: it would give up by itself. The body would never come.
    let request = axum::http::Request::post("/conclave.v1.GenerationService/Generate")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "0n")
        .body(axum::body::Body::from_stream(tokio_stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >()))
        .unwrap();
    let answer = soon(Service::call(&mut stage.front.grpc(), request)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let stage = stage().await;
    let model = String::from("gpt-7");
    let generate = v1::GenerateRequest {
        model: model.clone(),
        ..request("x")
    };
    let status = stage.client().generate(generate).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "MODEL_UNKNOWN"
    );
    let chat = v1::ChatRequest {
        model,
        ..chat::request("x")
    };
    assert_eq!(
        stage.client().chat(chat).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn long_names_are_not_repeated() {
    let stage = stage().await;
    let long = "x".repeat(100_000);
    let generate = v1::GenerateRequest {
        model: long.clone(),
        ..request("x")
    };
    let status = stage.client().generate(generate).await.unwrap_err();
    check("a model", &status, Code::InvalidArgument, "model");
    let get = v1::GetModelRequest { name: long.clone() };
    let mut models = ModelServiceClient::new(stage.grpc.clone());
    let status = models.get_model(get).await.unwrap_err();
    check("a name", &status, Code::InvalidArgument, "name");
    let get = v1::GetGenerationRequest {
        generation_id: long.clone(),
    };
    let status = stage.client().get_generation(get).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "generation_id");
    let cancel = v1::CancelGenerationRequest {
        generation_id: long,
        reason: String::new(),
    };
    let status = stage.client().cancel_generation(cancel).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "generation_id");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused() {
    let stage = stage().await;
    let mut call = tonic::Request::new(request("x"));
    call.metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = stage.client().generate(call).await.unwrap_err();
    check("a timeout", &status, Code::InvalidArgument, "grpc-timeout");
}

#[tokio::test]
async fn a_request_above_the_limit_is_refused() {
    let stage = Stage::new(always(Vec::new())).await;
    let status = stage
        .client()
        .generate(request(&"a".repeat(17 << 20)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "request");
}

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

#[tokio::test]
async fn the_tokenizer_refuses_ids_and_models_it_does_not_have() {
    let stage = stage().await;
    let mut client = TokenizerServiceClient::new(stage.grpc.clone());
    let outside = v1::DetokenizeRequest {
        model: String::new(),
        token_ids: vec![VOCAB],
    };
    let status = client.detokenize(outside).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "token_ids[0]");
    let many = v1::DetokenizeRequest {
        model: String::new(),
        token_ids: vec![1; CONTEXT as usize + 1],
    };
    let status = client.detokenize(many).await.unwrap_err();
    check("many ids", &status, Code::InvalidArgument, "token_ids");
    let long = v1::TokenizeRequest {
        text: "a".repeat(1 << 20),
        ..Default::default()
    };
    let status = client.tokenize(long).await.map(drop).unwrap_err();
    check("a long text", &status, Code::InvalidArgument, "text");
    let other = v1::TokenizeRequest {
        model: "gpt-7".into(),
        ..Default::default()
    };
    assert_eq!(
        client.tokenize(other).await.unwrap_err().code(),
        Code::NotFound
    );
    let status = client
        .render_chat(v1::RenderChatRequest::default())
        .await
        .unwrap_err();
    check(
        "nothing to render",
        &status,
        Code::InvalidArgument,
        "request",
    );
}
