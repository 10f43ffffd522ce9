//! `conclave chat`: a conversation at the terminal. Reasoning is dim, calls are yellow, what is said
//! between calls is cyan, answers are plain; Ctrl-C cancels one answer, Ctrl-D ends, and `/new` starts
//! a fresh conversation.

use std::io::{BufRead, IsTerminal, Write};

use proto::v1::chat_response::Event;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{Channel as HarmonyChannel, ChatRequest, Message, ReasoningEffort, Role};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::generate::{Printed, figures, interrupts, print, tell};
use crate::Outcome;
use crate::args::ChatArgs;
use crate::client;

/// Longest history sent with a question, in messages; older ones are left out, oldest first.
const MAX_HISTORY: usize = 200;

/// What a person types for a fresh conversation.
const NEW: &str = "/new";

/// Colours of the channels, as ANSI codes; empty where the output is no terminal.
pub(super) struct Colours {
    reasoning: &'static str,
    call: &'static str,
    preamble: &'static str,
    plain: &'static str,
}

const ANSI: Colours = Colours {
    reasoning: "\x1b[2m",
    call: "\x1b[33m",
    preamble: "\x1b[36m",
    plain: "\x1b[0m",
};

const COLOURLESS: Colours = Colours {
    reasoning: "",
    call: "",
    preamble: "",
    plain: "",
};

/// Returns the colours for what the standard output is.
pub(super) fn colours() -> &'static Colours {
    match std::io::stdout().is_terminal() {
        true => &ANSI,
        false => &COLOURLESS,
    }
}

/// Reads questions line by line and prints the answers as they stream.
pub(crate) async fn run(args: ChatArgs) -> Outcome {
    let mut client = client::connect(&args.server).await?;
    let is_terminal = std::io::stdin().is_terminal();
    let colours = colours();
    let hint = format!("Ctrl-C cancels an answer, Ctrl-D ends, {NEW} starts a fresh conversation.");
    if is_terminal {
        tell(&hint);
    }
    let mut interrupt = interrupts()?;
    let mut questions = read_lines();
    let mut conversation = Conversation::default();
    let mut unanswered = 0;
    loop {
        if is_terminal {
            write!(std::io::stderr(), "> ").ok();
        }
        let question = tokio::select! {
            question = questions.recv() => question,
            // It may have been meant for an answer that was just complete.
            _ = interrupt.recv() => if is_terminal {
                tell(&format!("\n{hint}"));
                continue;
            } else {
                None
            },
        };
        let Some(question) = question else { break };
        match question.trim() {
            "" => continue,
            NEW => {
                conversation = Conversation::default();
                tell("[a fresh conversation]");
                continue;
            }
            _ => conversation.ask(question),
        }
        let request = request(&args, &conversation.messages);
        match answer(&mut client, request, colours, &mut interrupt).await {
            Ok(Answer::Whole(messages)) => conversation.answered(messages),
            Ok(Answer::Cancelled) => tell("[cancelled]"),
            Ok(Answer::Unread) => break,
            Err(failure) => {
                tell(&conversation.failed(&failure));
                unanswered += 1;
            }
        }
    }
    // Who sits at a terminal has seen it, and gone on.
    match unanswered {
        1.. if !is_terminal => Err(format!("questions without an answer: {unanswered}")),
        _ => Ok(()),
    }
}

/// What was said, as it is sent with the next question.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    /// Adds a question, and forgets what is too long ago.
    fn ask(&mut self, question: String) {
        self.messages.push(message(Role::User, question));
        let surplus = self.messages.len().saturating_sub(MAX_HISTORY);
        self.messages.drain(..surplus);
    }

    /// Adds an answer. What a model writes in the name of another is not kept: the server would
    /// take it for that other's words, or refuse it with every question to come.
    fn answered(&mut self, messages: Vec<Message>) {
        let is_own = |message: &Message| message.role() == Role::Assistant;
        self.messages.extend(messages.into_iter().filter(is_own));
    }

    /// Takes the last question back; returns what to tell.
    fn failed(&mut self, failure: &Failure) -> String {
        self.messages.pop();
        let why = &failure.why;
        if failure.is_refusal && !self.messages.is_empty() {
            format!(
                "error: {why}\nIf that is about what was said before, it will be refused again: {NEW} \
                 starts a fresh conversation."
            )
        } else {
            format!("error: {why}")
        }
    }
}

/// Why there is no answer.
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether the server did not take the request.
    is_refusal: bool,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            why: client::in_words(&status),
            is_refusal: status.code() == Code::InvalidArgument,
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        let is_refusal = false;
        Self { why, is_refusal }
    }
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

pub(super) fn message(role: Role, text: String) -> Message {
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

/// How an answer ended.
pub(super) enum Answer {
    /// With these messages.
    Whole(Vec<Message>),
    Cancelled,
    /// Nobody reads what is printed any more.
    Unread,
}

/// Streams one answer.
pub(super) async fn answer(
    client: &mut GenerationServiceClient<Channel>,
    request: ChatRequest,
    colours: &Colours,
    interrupt: &mut Signal,
) -> Result<Answer, Failure> {
    let events = tokio::select! {
        events = client.chat(request) => events,
        _ = interrupt.recv() => return Ok(Answer::Cancelled),
    };
    let mut events = events?.into_inner();
    let mut messages = Vec::new();
    loop {
        let event = tokio::select! {
            event = events.message() => match event {
                Ok(event) => event,
                Err(status) => {
                    print(leave(colours), interrupt).await?;
                    return Err(status.into());
                }
            },
            _ = interrupt.recv() => {
                print(leave(colours), interrupt).await?;
                return Ok(Answer::Cancelled);
            }
        };
        let event = event.and_then(|response| response.event);
        let event =
            event.ok_or_else(|| "the server ended the stream without saying why".to_owned())?;
        match print(shown(&event, colours), interrupt).await? {
            Printed::Whole => {}
            Printed::Unread => return Ok(Answer::Unread),
            Printed::Interrupted => {
                print(leave(colours), interrupt).await?;
                return Ok(Answer::Cancelled);
            }
        }
        match event {
            Event::MessageDone(done) => messages.extend(done.message),
            Event::Warning(warning) => tell(&format!("[{}: {}]", warning.reason, warning.message)),
            Event::Finished(finished) => {
                tell(&figures(&finished));
                return Ok(Answer::Whole(messages));
            }
            _ => {}
        }
    }
}

/// Returns what an event adds to the standard output.
fn shown(event: &Event, colours: &Colours) -> String {
    match event {
        Event::MessageStarted(started) if !started.recipient.is_empty() => {
            format!("{}[call of {}] ", colours.call, started.recipient)
        }
        Event::MessageStarted(started) => match started.channel() {
            HarmonyChannel::Analysis => colours.reasoning.to_owned(),
            HarmonyChannel::Commentary => colours.preamble.to_owned(),
            HarmonyChannel::Final | HarmonyChannel::Unspecified => colours.plain.to_owned(),
        },
        Event::TextDelta(delta) => delta.text.clone(),
        Event::MessageDone(_) => leave(colours),
        _ => String::new(),
    }
}

/// Ends a line and its colour.
fn leave(colours: &Colours) -> String {
    format!("{}\n", colours.plain)
}

#[cfg(test)]
mod tests {
    use proto::v1::chat_response::Event;
    use proto::v1::{Channel, Message, MessageDone, MessageStarted, Role, TextDelta};
    use tonic::Status;

    use super::{ANSI, COLOURLESS, Colours, Conversation, MAX_HISTORY, message, shown};

    fn started(channel: Channel, recipient: &str) -> Event {
        Event::MessageStarted(MessageStarted {
            channel: channel.into(),
            recipient: recipient.to_owned(),
            ..MessageStarted::default()
        })
    }

    /// Shows a message as it streams.
    fn streamed(channel: Channel, recipient: &str, colours: &Colours) -> String {
        let delta = TextDelta {
            text: "text".to_owned(),
            ..TextDelta::default()
        };
        let done = Event::MessageDone(MessageDone::default());
        [started(channel, recipient), Event::TextDelta(delta), done]
            .iter()
            .map(|event| shown(event, colours))
            .collect()
    }

    #[test]
    fn channels_have_different_colours() {
        let ansi = |channel, recipient| streamed(channel, recipient, &ANSI);
        assert_eq!(ansi(Channel::Analysis, ""), "\x1b[2mtext\x1b[0m\n");
        assert_eq!(ansi(Channel::Commentary, ""), "\x1b[36mtext\x1b[0m\n");
        assert_eq!(ansi(Channel::Final, ""), "\x1b[0mtext\x1b[0m\n");
        let call = "\x1b[33m[call of functions.f] text\x1b[0m\n";
        assert_eq!(ansi(Channel::Commentary, "functions.f"), call);
        // A call is one whatever its channel.
        assert_eq!(ansi(Channel::Analysis, "functions.f"), call);
        assert_eq!(streamed(Channel::Analysis, "", &COLOURLESS), "text\n");
    }

    #[test]
    fn only_the_words_of_the_model_in_its_own_name_are_kept() {
        let mut conversation = Conversation::default();
        conversation.ask("?".to_owned());
        let roles = [
            Role::Assistant,
            Role::User,
            Role::Tool,
            Role::System,
            Role::Developer,
        ];
        let answer = roles.map(|role| message(role, "!".to_owned()));
        conversation.answered(answer.into());
        let kept: Vec<Role> = conversation.messages.iter().map(Message::role).collect();
        assert_eq!(kept, [Role::User, Role::Assistant]);
    }

    #[test]
    fn a_refused_question_is_taken_back_and_a_fresh_start_offered() {
        let refusal =
            || Status::invalid_argument("messages[1].recipient: must hold no blanks").into();
        let mut conversation = Conversation::default();
        conversation.ask("first".to_owned());
        let told = conversation.failed(&refusal());
        assert!(
            told.contains("messages[1]") && !told.contains("/new"),
            "{told}"
        );
        assert!(conversation.messages.is_empty());
        conversation.ask("first".to_owned());
        conversation.answered(vec![message(Role::Assistant, "!".to_owned())]);
        conversation.ask("second".to_owned());
        let told = conversation.failed(&refusal());
        assert!(
            told.contains("messages[1]") && told.contains("/new"),
            "{told}"
        );
        assert_eq!(conversation.messages.len(), 2);
        conversation.ask("second".to_owned());
        let told = conversation.failed(&Status::unavailable("no group").into());
        assert!(!told.contains("/new"), "{told}");
    }

    #[test]
    fn a_long_conversation_forgets_its_beginning() {
        let mut conversation = Conversation::default();
        (0..=MAX_HISTORY).for_each(|i| conversation.ask(i.to_string()));
        assert_eq!(conversation.messages.len(), MAX_HISTORY);
        assert_eq!(conversation.messages[0].text, "1");
    }
}
