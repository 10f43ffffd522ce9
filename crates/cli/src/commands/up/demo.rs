//! What `conclave up --demo` shows: a question that is reasoned about and answered, then one for which
//! the model calls a function.

use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{
    Channel as HarmonyChannel, ChatRequest, FunctionTool, Message, Role, SamplingParams, StopParams,
};
use tokio::signal::unix::Signal;
use tonic::transport::Channel;

use crate::args::{ServerArgs, UpArgs};
use crate::client;
use crate::commands::chat::{Answer, Colours, answer, colours, message};
use crate::commands::generate::interrupts;

/// Longest answer shown: a model of random weights never ends one.
const MOST_TOKENS: u32 = 200;

/// A question that needs no more than the model.
const SUM: &str = "What is 27 plus 15?";

/// A question for a function.
const WEATHER: &str = "What is the weather in Lisbon?";

/// What the function would say.
const RESULT: &str = r#"{"sky":"sunny","degrees":24}"#;

/// Asks two questions, and then says how to ask more.
pub(super) async fn show(args: &UpArgs) {
    let (grpc, http) = (&args.serve.grpc, &args.serve.http);
    match ask(format!("http://{grpc}")).await {
        Ok(Shown::Whole) => {}
        // Who pressed Ctrl-C is not told to press it.
        Ok(Shown::Cut) => return,
        Err(why) => eprintln!("error: {why}"),
    }
    println!(
        "\nThe API is there until you press Ctrl-C:\n  \
         conclave chat --server http://{grpc}\n  \
         curl http://{http}/v1/models"
    );
}

/// Whether all was shown that was to be.
enum Shown {
    Whole,
    Cut,
}

async fn ask(server: String) -> Result<Shown, String> {
    let mut stage = Stage {
        client: client::connect(&ServerArgs { server }).await?,
        colours: colours(),
        interrupt: interrupts()?,
    };
    println!("\n> {SUM}");
    let asked = vec![message(Role::User, SUM.to_owned())];
    if stage.answer(asked, Vec::new()).await?.is_none() {
        return Ok(Shown::Cut);
    }
    let tool = weather();
    println!("\nNow a function is declared: {}(city).", tool.name);
    println!("> {WEATHER}");
    let mut asked = vec![message(Role::User, WEATHER.to_owned())];
    let Some(said) = stage.answer(asked.clone(), vec![tool.clone()]).await? else {
        return Ok(Shown::Cut);
    };
    let Some(result) = said.iter().find_map(result_of) else {
        println!("(the model made no call)");
        return Ok(Shown::Whole);
    };
    println!("[its result] {RESULT}");
    asked.extend(said);
    asked.push(result);
    let told = stage.answer(asked, vec![tool]).await?;
    Ok(told.map_or(Shown::Cut, |_| Shown::Whole))
}

/// Where answers are shown.
struct Stage {
    client: GenerationServiceClient<Channel>,
    colours: &'static Colours,
    interrupt: Signal,
}

impl Stage {
    /// Shows an answer as it streams, and returns its messages; none if nobody waits for them any more.
    async fn answer(
        &mut self,
        messages: Vec<Message>,
        tools: Vec<FunctionTool>,
    ) -> Result<Option<Vec<Message>>, String> {
        let request = ChatRequest {
            messages,
            tools,
            sampling: Some(SamplingParams {
                temperature: Some(0.0),
                ..SamplingParams::default()
            }),
            stop: Some(StopParams {
                max_output_tokens: Some(MOST_TOKENS),
                ..StopParams::default()
            }),
            ..ChatRequest::default()
        };
        let shown = answer(&mut self.client, request, self.colours, &mut self.interrupt);
        match shown.await.map_err(|failure| failure.why)? {
            Answer::Whole(mut messages) => {
                // What a model says in the name of another is not sent back.
                messages.retain(|message| message.role() == Role::Assistant);
                Ok(Some(messages))
            }
            Answer::Cancelled | Answer::Unread => Ok(None),
        }
    }
}

fn weather() -> FunctionTool {
    FunctionTool {
        name: "get_weather".to_owned(),
        description: "Get the weather in a city.".to_owned(),
        parameters_json:
            r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#
                .to_owned(),
        ..FunctionTool::default()
    }
}

/// The result of a call, as a program that can call the function sends it back.
fn result_of(call: &Message) -> Option<Message> {
    call.recipient.starts_with("functions.").then(|| Message {
        role: Role::Tool.into(),
        name: call.recipient.clone(),
        channel: HarmonyChannel::Commentary.into(),
        recipient: "assistant".to_owned(),
        text: RESULT.to_owned(),
        tool_call_id: call.tool_call_id.clone(),
        ..Message::default()
    })
}
