//! `conclave generate`: continues a text, as it streams.

use std::io::{self, ErrorKind, Read, Write};

use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::{Finished, GenerateRequest, StopParams};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::synth::INTERRUPTED;
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
    let mut interrupt = interrupts()?;
    let events = tokio::select! {
        events = client.generate(request) => events,
        _ = interrupt.recv() => cancelled(),
    };
    let mut events = events
        .map_err(|status| client::in_words(&status))?
        .into_inner();
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| client::in_words(&status))?,
            _ = interrupt.recv() => cancelled(),
        };
        match event.and_then(|response| response.event) {
            Some(Event::Tokens(tokens)) => match print(tokens.text, &mut interrupt).await? {
                Printed::Whole => {}
                // Whoever read us has gone; so does the generation.
                Printed::Unread => return Ok(()),
                Printed::Interrupted => cancelled(),
            },
            Some(Event::Finished(finished)) => {
                print("\n", &mut interrupt).await?;
                tell(&figures(&finished));
                return Ok(());
            }
            Some(_) => {}
            None => return Err("the server ended the stream without saying why".into()),
        }
    }
}

/// Ends the process, and with its connection the generation.
#[expect(
    clippy::disallowed_methods,
    reason = "what was printed is written out, and scripts tell an interruption by its status"
)]
fn cancelled() -> ! {
    tell("\ncancelled");
    std::process::exit(INTERRUPTED);
}

/// Listens for Ctrl-C: once, as each Ctrl-C is told to those who listen at that time, and the first
/// listener takes the default away for good.
pub(crate) fn interrupts() -> Result<Signal, String> {
    signal(SignalKind::interrupt()).map_err(|error| format!("cannot listen for Ctrl-C: {error}"))
}

/// What became of a text for the standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// All of it was written.
    Whole,
    /// Nobody reads the standard output any more, as after `| head -1`.
    Unread,
    /// Ctrl-C came first: whoever reads may have stopped.
    Interrupted,
}

/// Writes to the standard output, on a thread that may block.
pub(crate) async fn print(
    text: impl Into<Vec<u8>>,
    interrupt: &mut Signal,
) -> Result<Printed, String> {
    let text = text.into();
    let write = tokio::task::spawn_blocking(move || write(&mut io::stdout().lock(), &text));
    tokio::select! {
        written = write => written.map_err(|error| error.to_string())?,
        _ = interrupt.recv() => Ok(Printed::Interrupted),
    }
}

fn write(out: &mut impl Write, text: &[u8]) -> Result<Printed, String> {
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Printed::Whole),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Printed::Unread),
        Err(error) => Err(format!("cannot write to the standard output: {error}")),
    }
}

/// Writes a line to the standard error; where nobody reads it, it is told to nobody.
pub(crate) fn tell(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
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

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Write};

    use super::{Printed, write};

    /// Fails with this error; as a terminal does, once a line is written out.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let mut out = Vec::new();
        assert_eq!(write(&mut out, b"text"), Ok(Printed::Whole));
        assert_eq!(out, b"text");
        let unread = write(&mut Broken(ErrorKind::BrokenPipe), b"text");
        assert_eq!(unread, Ok(Printed::Unread));
        let full = write(&mut Broken(ErrorKind::StorageFull), b"text");
        assert!(full.unwrap_err().contains("cannot write"));
    }
}
