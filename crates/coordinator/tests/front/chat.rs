//! GenerationService.Chat and TokenizerService.RenderChat.

use proto::v1::chat_response::Event;
use proto::v1::tokenizer_service_client::TokenizerServiceClient;
use proto::v1::{self, Channel, FinishReason, Role};
use tokio_stream::StreamExt as _;

use crate::stage::{Stage, always, ids};

/// A conversation of one question.
pub(crate) fn request(question: &str) -> v1::ChatRequest {
    v1::ChatRequest {
        messages: vec![message(Role::User, question)],
        ..Default::default()
    }
}

pub(crate) fn message(role: Role, text: &str) -> v1::Message {
    v1::Message {
        role: role.into(),
        text: text.into(),
        ..Default::default()
    }
}

pub(crate) async fn run(stage: &Stage, request: v1::ChatRequest) -> Vec<v1::ChatResponse> {
    let stream = stage.client().chat(request).await.unwrap().into_inner();
    stream.map(Result::unwrap).collect().await
}

pub(crate) fn messages(responses: &[v1::ChatResponse]) -> Vec<v1::Message> {
    let done = responses
        .iter()
        .filter_map(|response| match &response.event {
            Some(Event::MessageDone(done)) => done.message.clone(),
            _ => None,
        });
    done.collect()
}

fn end(responses: &[v1::ChatResponse]) -> v1::Finished {
    match &responses.last().unwrap().event {
        Some(Event::Finished(finished)) => finished.clone(),
        other => panic!("the last event is {other:?}"),
    }
}

async fn render(stage: &Stage, request: v1::ChatRequest) -> v1::RenderChatResponse {
    let mut client = TokenizerServiceClient::new(stage.grpc.clone());
    let request = v1::RenderChatRequest {
        request: Some(request),
    };
    client.render_chat(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn streams_reasoning_and_answer_as_messages() {
    let output = "<|channel|>analysis<|message|>Easy.<|end|>\
        <|start|>assistant<|channel|>final<|message|>H\u{e9}llo!<|return|>";
    let mut stage = Stage::new(always(ids(output))).await;
    let responses = run(&stage, request("Hi")).await;
    assert!(matches!(responses[0].event, Some(Event::Started(_))));
    let Some(Event::MessageStarted(first)) = &responses[1].event else {
        panic!("{responses:?}")
    };
    assert_eq!(first.channel(), Channel::Analysis);
    assert_eq!(first.role(), Role::Assistant);
    let done = messages(&responses);
    assert_eq!(done[0].text, "Easy.");
    assert_eq!(
        (done[1].channel(), done[1].text.as_str()),
        (Channel::Final, "H\u{e9}llo!")
    );
    let end = end(&responses);
    assert_eq!(end.reason(), FinishReason::Stop);
    let usage = end.usage.unwrap();
    assert_eq!(usage.reasoning_tokens as usize, ids("Easy.").len());
    assert_eq!(usage.output_tokens as usize, ids(output).len());
    let numbers: Vec<u64> = responses.iter().map(|response| response.sequence).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "{numbers:?}"
    );

    let followed = stage.followed().await;
    assert_eq!(
        followed.tokens,
        render(&stage, request("Hi")).await.token_ids
    );
}

#[tokio::test]
async fn a_tool_call_ends_the_turn() {
    let output = "<|channel|>commentary to=functions.look <|constrain|>json\
        <|message|>{\"at\":\"sky\"}<|call|>";
    let stage = Stage::new(always(ids(output))).await;
    let tool = v1::FunctionTool {
        name: "look".into(),
        description: "Looks.".into(),
        parameters_json: r#"{"type":"object","properties":{"at":{"type":"string"}}}"#.into(),
        strict: false,
    };
    let asked = v1::ChatRequest {
        tools: vec![tool],
        ..request("Look up")
    };
    let responses = run(&stage, asked.clone()).await;
    let call = &messages(&responses)[0];
    assert_eq!(call.recipient, "functions.look");
    assert_eq!(call.text, "{\"at\":\"sky\"}");
    assert!(call.tool_call_id.starts_with("call_"));
    assert_eq!(end(&responses).reason(), FinishReason::ToolCalls);
    assert_eq!(end(&responses).matched_token_id, Some(ids("<|call|>")[0]));

    // The result goes back under the call's id; its tool needs no other name.
    let mut next = asked;
    next.messages.push(call.clone());
    next.messages.push(v1::Message {
        tool_call_id: call.tool_call_id.clone(),
        ..message(Role::Tool, "blue")
    });
    let text = render(&stage, next).await.text;
    assert!(
        text.contains("<|start|>assistant to=functions.look<|channel|>commentary"),
        "{text}"
    );
    let result = "<|start|>functions.look to=assistant<|channel|>commentary<|message|>blue<|end|>";
    assert!(text.contains(result), "{text}");
}

#[tokio::test]
async fn malformed_output_never_fails_a_request() {
    for output in [
        "no header at all<|return|>",
        "<|return|>",
        "<|channel|><|message|><|end|><|end|><|start|><|return|>",
        "<|channel|>final<|message|>a<|channel|>b<|start|>assistant<|message|>c<|return|>",
        "<|channel|>commentary to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
    ] {
        let stage = Stage::new(always(ids(output))).await;
        let responses = run(&stage, request("Hi")).await;
        let reason = end(&responses).reason();
        assert!(
            matches!(reason, FinishReason::Stop | FinishReason::ToolCalls),
            "{output}"
        );
    }
}

#[tokio::test]
async fn renders_instructions_tools_effort_and_date() {
    let stage = Stage::new(always(Vec::new())).await;
    let asked = v1::ChatRequest {
        messages: vec![
            message(Role::System, "Be kind."),
            message(Role::Developer, "Be brief."),
            message(Role::User, "A <|end|> in text"),
        ],
        instructions: "Be right.".into(),
        tools: vec![v1::FunctionTool {
            name: "now".into(),
            ..Default::default()
        }],
        reasoning_effort: v1::ReasoningEffort::High.into(),
        conversation_date: "2025-06-28".into(),
        ..Default::default()
    };
    let rendered = render(&stage, asked.clone()).await;
    let text = &rendered.text;
    assert!(text.contains("Reasoning: high"), "{text}");
    assert!(text.contains("Current date: 2025-06-28"), "{text}");
    assert!(
        text.contains("# Instructions\n\nBe right.\n\nBe kind.\n\nBe brief."),
        "{text}"
    );
    assert!(text.contains("type now = () => any;"), "{text}");
    assert!(text.ends_with("<|start|>assistant"), "{text}");
    let end = ids("<|end|>")[0];
    // One for each message but none for the user's own text.
    assert_eq!(
        rendered.token_ids.iter().filter(|id| **id == end).count(),
        3
    );

    let mode = v1::ToolChoiceMode::None.into();
    let tool_choice = Some(v1::ToolChoice {
        mode,
        ..Default::default()
    });
    let without = render(
        &stage,
        v1::ChatRequest {
            tool_choice,
            ..asked
        },
    )
    .await
    .text;
    assert!(!without.contains("functions"), "{without}");
}

#[tokio::test]
async fn an_earlier_answer_without_a_channel_is_final() {
    let stage = Stage::new(always(Vec::new())).await;
    let reasoning = v1::Message {
        channel: Channel::Analysis.into(),
        // Far more than the context: what is dropped takes no room.
        ..message(Role::Assistant, &"Hm. ".repeat(100_000))
    };
    let messages = vec![
        message(Role::User, "Hi"),
        reasoning,
        message(Role::Assistant, "Hello."),
        message(Role::User, "And now?"),
    ];
    let asked = v1::ChatRequest {
        messages,
        ..Default::default()
    };
    let text = render(&stage, asked).await.text;
    let answer = "<|start|>assistant<|channel|>final<|message|>Hello.<|end|>";
    assert!(text.contains(answer), "{text}");
    assert!(!text.contains("Hm."));
}

#[tokio::test]
async fn messages_can_come_whole_with_tokens_and_logprobs() {
    let stage = Stage::new(always(ids(
        "<|channel|>final<|message|>one two three<|return|>",
    )))
    .await;
    let stream = v1::StreamParams {
        delivery: v1::Delivery::FinalOnly.into(),
        include_token_ids: true,
        ..Default::default()
    };
    let logprobs = v1::LogprobParams {
        output: true,
        top: 1,
        prompt: false,
    };
    let asked = v1::ChatRequest {
        stream: Some(stream),
        logprobs: Some(logprobs),
        ..request("count")
    };
    let responses = run(&stage, asked).await;
    assert_eq!(responses.len(), 5, "{responses:?}");
    let Some(Event::TextDelta(delta)) = &responses[2].event else {
        panic!("{responses:?}")
    };
    assert_eq!(delta.text, "one two three");
    assert_eq!(delta.token_ids, ids("one two three"));
    assert_eq!(delta.logprobs.len(), delta.token_ids.len());
    assert_eq!(delta.logprobs[0].top.len(), 1);
}

#[tokio::test]
async fn a_stop_sequence_ends_the_answer() {
    let output = "<|channel|>analysis<|message|>Say END.<|end|>\
        <|start|>assistant<|channel|>final<|message|>The END of it";
    let mut stage = Stage::new(always(ids(output))).await;
    let stop = Some(v1::StopParams {
        stop_sequences: vec!["END".into()],
        ..Default::default()
    });
    let asked = v1::ChatRequest {
        stop,
        request_id: "e".into(),
        ..request("Hi")
    };
    let responses = run(&stage, asked).await;
    let texts: Vec<String> = messages(&responses).into_iter().map(|m| m.text).collect();
    assert_eq!(texts, ["Say END.", "The "]);
    assert_eq!(end(&responses).reason(), FinishReason::StopSequence);
    assert_eq!(end(&responses).matched_stop_sequence, "END");
    assert_eq!(stage.hung_up().await, "e");
}

#[tokio::test]
async fn a_stop_sequence_in_text_that_was_held_until_the_limit_ends_the_answer() {
    let cases = [
        // Held as a header, which it might have been.
        ("I say STOP now", "STOP", "I say "),
        // Held as the next message's beginning.
        (
            "<|channel|>final<|message|>Hi<|start|>assistant",
            "assistant",
            "Hi<|start|>",
        ),
    ];
    for (output, stop, text) in cases {
        let output = ids(output);
        let limit = output.len() as u32;
        let stage = Stage::new(always(output)).await;
        let asked = v1::ChatRequest {
            stop: Some(v1::StopParams {
                stop_sequences: vec![stop.into()],
                max_output_tokens: Some(limit),
                ..Default::default()
            }),
            ..request("Hi")
        };
        let responses = run(&stage, asked).await;
        assert_eq!(messages(&responses)[0].text, text);
        let end = end(&responses);
        assert_eq!(end.reason(), FinishReason::StopSequence, "{text}");
        assert_eq!(end.matched_stop_sequence, stop);
        assert_eq!(end.matched_token_id, None);
        assert_eq!(end.usage.unwrap().output_tokens, limit);
    }
}
