//! `conclave chat`: a conversation at the terminal. Reasoning is dim, calls are yellow, answers are
//! plain; Ctrl-C cancels one answer, Ctrl-D ends.

use std::io::{BufRead, IsTerminal, Write};

use proto::v1::chat_response::Event;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{Channel as HarmonyChannel, ChatRequest, Message, ReasoningEffort, Role};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::generate::figures;
use crate::Outcome;
use crate::args::ChatArgs;
use crate::client;

/// Longest history sent with a question, in messages; older ones are left out, oldest first.
const MAX_HISTORY: usize = 200;

/// Colours of the channels, as ANSI codes; empty where the output is no terminal.
struct Colours {
    reasoning: &'static str,
    call: &'static str,
    plain: &'static str,
}

impl Colours {
    fn of_terminal() -> Self {
        if std::io::stdout().is_terminal() {
            Self {
                reasoning: "\x1b[2m",
                call: "\x1b[33m",
                plain: "\x1b[0m",
            }
        } else {
            Self {
                reasoning: "",
                call: "",
                plain: "",
            }
        }
    }
}

/// Reads questions line by line and prints the answers as they stream.
pub(crate) async fn run(args: ChatArgs) -> Outcome {
    let mut client = client::connect(&args.server).await?;
    if std::io::stdin().is_terminal() {
        eprintln!("Ctrl-C cancels an answer, Ctrl-D ends.");
    }
    // One listener from now on: the first takes the default away from Ctrl-C, for good.
    let interrupt = signal(SignalKind::interrupt());
    let mut interrupt = interrupt.map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;
    let mut questions = read_lines();
    let mut history: Vec<Message> = Vec::new();
    loop {
        if std::io::stdin().is_terminal() {
            eprint!("> ");
        }
        let question = tokio::select! {
            question = questions.recv() => question,
            _ = interrupt.recv() => None,
        };
        let Some(question) = question else { break };
        if question.trim().is_empty() {
            continue;
        }
        history.push(message(Role::User, question));
        let surplus = history.len().saturating_sub(MAX_HISTORY);
        history.drain(..surplus);
        match answer(&mut client, request(&args, &history), &mut interrupt).await {
            Ok(messages) => history.extend(messages),
            Err(why) => {
                println!("{}", Colours::of_terminal().plain);
                eprintln!("error: {why}");
                history.pop();
            }
        }
    }
    Ok(())
}

/// Lines of the standard input, read on a thread of their own: reading a terminal cannot be
/// cancelled.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn message(role: Role, text: String) -> Message {
    Message {
        role: role.into(),
        text,
        ..Message::default()
    }
}

fn request(args: &ChatArgs, history: &[Message]) -> ChatRequest {
    let effort = match args.reasoning.as_deref() {
        Some("low") => ReasoningEffort::Low,
        Some("high") => ReasoningEffort::High,
        Some(_) => ReasoningEffort::Medium,
        None => ReasoningEffort::Unspecified,
    };
    ChatRequest {
        messages: history.to_vec(),
        instructions: args.instructions.clone().unwrap_or_default(),
        reasoning_effort: effort.into(),
        sampling: Some(client::sampling(&args.sampling)),
        stop: Some(client::stop(&args.sampling)),
        ..ChatRequest::default()
    }
}

/// Streams one answer; returns its messages, for the next question. A cancelled answer has none.
async fn answer(
    client: &mut GenerationServiceClient<Channel>,
    request: ChatRequest,
    interrupt: &mut Signal,
) -> Result<Vec<Message>, String> {
    let colours = Colours::of_terminal();
    let events = tokio::select! {
        events = client.chat(request) => events,
        _ = interrupt.recv() => {
            eprintln!("[cancelled]");
            return Ok(Vec::new());
        }
    };
    let mut events = events
        .map_err(|status| client::in_words(&status))?
        .into_inner();
    let (mut messages, mut out) = (Vec::new(), std::io::stdout());
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| client::in_words(&status))?,
            _ = interrupt.recv() => {
                println!("{}", colours.plain);
                eprintln!("[cancelled]");
                return Ok(Vec::new());
            }
        };
        let shown = match event.and_then(|response| response.event) {
            Some(Event::MessageStarted(started)) => {
                let to = (!started.recipient.is_empty()).then_some(started.recipient.as_str());
                match (started.channel(), to) {
                    (_, Some(to)) => format!("{}[call of {to}] ", colours.call),
                    (HarmonyChannel::Analysis, None) => colours.reasoning.to_owned(),
                    _ => colours.plain.to_owned(),
                }
            }
            Some(Event::TextDelta(delta)) => delta.text,
            Some(Event::MessageDone(done)) => {
                messages.extend(done.message);
                format!("{}\n", colours.plain)
            }
            Some(Event::Warning(warning)) => {
                eprintln!("[{}: {}]", warning.reason, warning.message);
                continue;
            }
            Some(Event::Finished(finished)) => {
                eprintln!("{}", figures(&finished));
                return Ok(messages);
            }
            Some(Event::Started(_) | Event::Heartbeat(_)) => continue,
            None => return Err("the server ended the stream without saying why".into()),
        };
        let written = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| format!("cannot write to the standard output: {error}"))?;
    }
}
