//! The model in the box answers: it reasons, counts, calls functions and does as it is told, the same on
//! any number of ranks.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use e2e::{Cluster, Setup, binary, free_address};
use proto::v1::chat_response::Event;
use proto::v1::generate_request::Prompt;
use proto::v1::{
    Channel, ChatRequest, FinishReason, FunctionTool, GenerateRequest, Message, ReasoningEffort,
    Role, SamplingParams, StreamParams, TokenIds,
};

use crate::generations::{Client, reason, run, soon, tokens, with_client};

/// What it is asked, and what its answer is.
const QUESTIONS: [(&str, &str); 4] = [
    ("What is 27 plus 15?", "27 + 15 = 42."),
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
    ),
    ("Sort 30, 12 and 75.", "In order: 12, 30, 75."),
    ("Hello!", "Hello! How can I help you?"),
];

fn message(role: Role, text: &str) -> Message {
    Message {
        role: role.into(),
        text: text.into(),
        ..Default::default()
    }
}

fn greedy(messages: Vec<Message>) -> ChatRequest {
    ChatRequest {
        messages,
        sampling: Some(SamplingParams {
            temperature: Some(0.0),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn question(text: &str) -> ChatRequest {
    greedy(vec![message(Role::User, text)])
}

fn get_weather() -> FunctionTool {
    FunctionTool {
        name: "get_weather".into(),
        description: "Get the weather in a city.".into(),
        parameters_json:
            r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#
                .into(),
        ..Default::default()
    }
}

/// The messages of an answer, and why it ended; nothing had to be repaired.
async fn chat(client: &mut Client, request: ChatRequest) -> (Vec<Message>, FinishReason) {
    let stream = soon(client.chat(request)).await.unwrap();
    let (mut stream, mut messages) = (stream.into_inner(), Vec::new());
    while let Some(response) = soon(stream.message()).await.unwrap() {
        match response.event.unwrap() {
            Event::MessageDone(done) => messages.extend(done.message),
            Event::Finished(finished) => return (messages, finished.reason()),
            Event::Warning(warning) => panic!("{warning:?}"),
            _ => {}
        }
    }
    panic!("the stream has ended without an end");
}

/// The text of the last message on a channel.
fn text_of(messages: &[Message], channel: Channel) -> &str {
    let mut messages = messages.iter().rev();
    let found = messages.find(|message| message.channel() == channel);
    &found.unwrap().text
}

#[test]
fn it_reasons_and_then_answers_the_same_on_any_number_of_ranks() {
    let mut answers = Vec::new();
    for workers in 1..=3 {
        let cluster = Cluster::start(&Setup::mini(workers));
        let said = &mut answers;
        with_client(&cluster, |mut client| async move {
            for (asked, answer) in QUESTIONS {
                let (messages, reason) = chat(&mut client, question(asked)).await;
                assert_eq!(reason, FinishReason::Stop);
                assert!(!text_of(&messages, Channel::Analysis).is_empty());
                assert_eq!(text_of(&messages, Channel::Final), answer);
                said.push(messages);
            }
        });
    }
    let (first, others) = answers.split_at(QUESTIONS.len());
    assert!(others.chunks(QUESTIONS.len()).all(|same| same == first));
}

/// Token ids of a list.
fn ids(list: &serde_json::Value) -> Vec<u32> {
    let list = list.as_array().unwrap().iter();
    list.map(|id| id.as_u64().unwrap().try_into().unwrap())
        .collect()
}

/// Answers that transformers wrote from the same files, two of each family (`models/mini/recipe/oracle.py --write`).
#[test]
fn it_writes_token_by_token_what_transformers_writes() {
    let recorded: serde_json::Value =
        serde_json::from_str(include_str!("mini/transformers.json")).unwrap();
    let recorded = recorded["conversations"].as_array().unwrap();
    assert_eq!(recorded.len(), 24);
    let setup = Setup {
        arguments: ["--numerics", "exact"].map(String::from).to_vec(),
        ..Setup::mini(2)
    };
    with_client(&Cluster::start(&setup), |mut client| async move {
        for conversation in recorded {
            let request = GenerateRequest {
                prompt: Some(Prompt::TokenIds(TokenIds {
                    ids: ids(&conversation["prompt"]),
                })),
                sampling: greedy(Vec::new()).sampling,
                stream: Some(StreamParams {
                    include_token_ids: true,
                    ..Default::default()
                }),
                ..Default::default()
            };
            let responses = run(&mut client, request).await.unwrap();
            assert_eq!(reason(&responses), FinishReason::Stop);
            let found: Vec<u32> = tokens(&responses).into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, ids(&conversation["answer"]), "{conversation}");
        }
    });
}

#[test]
fn it_calls_a_function_and_tells_its_result() {
    let cluster = Cluster::start(&Setup::mini(2));
    with_client(&cluster, |mut client| async move {
        let mut request = question("What is the weather in Lisbon?");
        request.tools = vec![get_weather()];
        let (messages, reason) = chat(&mut client, request.clone()).await;
        assert_eq!(reason, FinishReason::ToolCalls);
        let call = messages.last().unwrap();
        assert_eq!(call.recipient, "functions.get_weather");
        assert_eq!(call.text, r#"{"city":"Lisbon"}"#);
        request.messages.extend(messages.clone());
        request.messages.push(Message {
            tool_call_id: call.tool_call_id.clone(),
            ..message(Role::Tool, r#"{"sky":"sunny","degrees":24}"#)
        });
        let (messages, reason) = chat(&mut client, request.clone()).await;
        assert_eq!(reason, FinishReason::Stop);
        let answer = text_of(&messages, Channel::Final);
        assert_eq!(answer, "It is sunny in Lisbon, with 24 degrees.");

        // What no function is for is answered without a call.
        let mut request = question("What is the capital of France?");
        request.tools = vec![get_weather()];
        let (messages, reason) = chat(&mut client, request).await;
        assert_eq!(reason, FinishReason::Stop);
        assert_eq!(text_of(&messages, Channel::Final), QUESTIONS[1].1);
    });
}

#[test]
fn it_reasons_for_as_long_as_asked_and_does_as_the_developer_demands() {
    let cluster = Cluster::start(&Setup::mini(2));
    with_client(&cluster, |mut client| async move {
        let mut lengths = Vec::new();
        let efforts = [
            ReasoningEffort::Low,
            ReasoningEffort::Medium,
            ReasoningEffort::High,
        ];
        for effort in efforts {
            let mut request = question("What is 27 plus 15?");
            request.reasoning_effort = effort.into();
            let (messages, _) = chat(&mut client, request).await;
            assert_eq!(text_of(&messages, Channel::Final), QUESTIONS[0].1);
            lengths.push(text_of(&messages, Channel::Analysis).len());
        }
        assert!(
            lengths.is_sorted_by(|less, more| less < more),
            "{lengths:?}"
        );

        for (demand, answer) in [
            ("Answer in one word.", "Paris"),
            ("Always answer in JSON.", r#"{"answer":"Paris"}"#),
        ] {
            let mut request = question("What is the capital of France?");
            request.instructions = demand.into();
            let (messages, _) = chat(&mut client, request).await;
            assert_eq!(text_of(&messages, Channel::Final), answer, "{demand}");
        }
    });
}

/// Longest that the demo may take, on a busy machine.
const DEMO: Duration = Duration::from_secs(120);

/// Ends a process when the test does, however that goes.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_demo_shows_reasoning_a_call_and_the_answer() {
    let home = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let addresses = ["--grpc", &free_address(), "--http", &free_address()];
    let up = Command::new(binary())
        .args(["up", "--demo"])
        .args(addresses)
        .env("HOME", home.path())
        .env_remove("XDG_CACHE_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn();
    let mut up = Ended(up.unwrap());
    let lines = BufReader::new(up.0.stdout.take().unwrap()).lines();
    let (sender, said) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    let end = Instant::now() + DEMO;
    let mut shown = Vec::new();
    while let Ok(line) = said.recv_timeout(end.saturating_duration_since(Instant::now())) {
        shown.push(line);
        if shown.last().unwrap().contains("until you press Ctrl-C") {
            break;
        }
    }
    let mut wanted = [
        "> What is 27 plus 15?",
        "7+5=12",
        "27 + 15 = 42.",
        "> What is the weather in Lisbon?",
        r#"[call of functions.get_weather] {"city":"Lisbon"}"#,
        "It is sunny in Lisbon, with 24 degrees.",
        "until you press Ctrl-C",
    ]
    .into_iter()
    .peekable();
    for line in &shown {
        wanted.next_if(|part| line.contains(part));
    }
    let log = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert_eq!(wanted.next(), None, "{shown:#?}\n{log}");
}
