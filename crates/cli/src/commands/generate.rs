//! `conclave generate`: continues a text, as it streams.

use std::io::{Read, Write};

use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::{Finished, GenerateRequest, StopParams};

use crate::Outcome;
use crate::args::GenerateArgs;
use crate::client;

/// Prints the prompt's continuation to the standard output, and one line of figures to the standard
/// error. Ctrl-C ends the stream and so cancels the generation.
pub(crate) async fn run(args: GenerateArgs) -> Outcome {
    let prompt = if args.prompt == "-" {
        read_stdin()?
    } else {
        args.prompt
    };
    let mut client = client::connect(&args.server).await?;
    let stop = StopParams {
        ignore_eos: args.ignore_eos,
        ..client::stop(&args.sampling)
    };
    let request = GenerateRequest {
        prompt: Some(Prompt::Text(prompt)),
        sampling: Some(client::sampling(&args.sampling)),
        stop: Some(stop),
        ..GenerateRequest::default()
    };
    let events = client
        .generate(request)
        .await
        .map_err(|status| client::in_words(&status))?;
    let mut events = events.into_inner();
    let mut out = std::io::stdout();
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| client::in_words(&status))?,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("\ncancelled");
                return Ok(());
            }
        };
        match event.and_then(|response| response.event) {
            Some(Event::Tokens(tokens)) => {
                let written = out.write_all(&tokens.text).and_then(|()| out.flush());
                if written.is_err() {
                    // Whoever read us has gone; so does the generation.
                    return Ok(());
                }
            }
            Some(Event::Finished(finished)) => {
                // Whoever read us may have gone with the last token.
                writeln!(out).ok();
                eprintln!("{}", figures(&finished));
                return Ok(());
            }
            Some(_) => {}
            None => return Err("the server ended the stream without saying why".into()),
        }
    }
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the prompt from the standard input: {error}"))?;
    Ok(text)
}

/// Says why a generation ended, how much it was and how fast.
pub(crate) fn figures(finished: &Finished) -> String {
    let usage = finished.usage.unwrap_or_default();
    let seconds = |duration: Option<prost_types::Duration>| {
        duration.map_or(0.0, |d| d.seconds as f64 + f64::from(d.nanos) / 1e9)
    };
    let timings = finished.timings.unwrap_or_default();
    let (first, total) = (seconds(timings.time_to_first_token), seconds(timings.total));
    let after_first = f64::from(usage.output_tokens.saturating_sub(1));
    let rate = if total > first {
        after_first / (total - first)
    } else {
        0.0
    };
    let reason = finished
        .reason()
        .as_str_name()
        .trim_start_matches("FINISH_REASON_");
    format!(
        "[{}; prompt {} tokens, {} cached; output {} tokens; first after {:.0} ms, then {rate:.1} \
         tokens/s]",
        reason.to_lowercase().replace('_', " "),
        usage.prompt_tokens,
        usage.cached_prompt_tokens,
        usage.output_tokens,
        first * 1e3,
    )
}
