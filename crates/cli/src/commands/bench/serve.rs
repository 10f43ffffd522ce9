//! `conclave bench serve`: a cluster as its clients see it.

use std::time::Duration;

use bench::serving::{Record, Summary, arrivals, chart};
use indicatif::ProgressBar;
use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{GenerateRequest, ListModelsRequest, SamplingParams, StopParams, TokenIds};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::Report;
use crate::args::ServeBenchArgs;
use crate::{Outcome, client};

/// Calls that share a connection: servers take no more than about a thousand.
const CALLS: usize = 512;
/// How long an answer is waited for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Sends all requests, each at its time, and tells what became of them.
pub(super) async fn run(args: ServeBenchArgs) -> Outcome {
    let figures_to = Report::begin("--json", args.json.as_ref())?;
    let chart_to = Report::begin("--chart", args.chart.as_ref())?;
    let vocab = vocabulary(&args).await?;
    let count = args.requests.get();
    let mut clients = Vec::new();
    for _ in 0..count.div_ceil(CALLS) {
        clients.push(client::connect(&args.server).await?);
    }
    let bar = ProgressBar::new(count as u64);
    let start = Instant::now();
    let mut running = JoinSet::new();
    let mut random = fastrand::Rng::with_seed(args.seed);
    for (index, at) in arrivals(args.rate, count, args.seed)
        .into_iter()
        .enumerate()
    {
        let request = request(&args, vocab, &mut random);
        let (client, bar) = (clients[index / CALLS].clone(), bar.clone());
        running.spawn(async move {
            sleep_until(start + Duration::from_secs_f64(at)).await;
            let record = ask(client, request, start).await;
            bar.inc(1);
            record
        });
    }
    let records = running.join_all().await;
    bar.finish_and_clear();
    let summary = Summary::of(&records);
    let title = title(&args);
    println!("{title}");
    print!("{}", table(&summary));
    let mut figures = summary.figures();
    for (name, value) in [
        (
            "request_rate",
            match args.rate.is_finite() {
                true => json!(args.rate),
                false => json!("inf"),
            },
        ),
        ("num_prompts", json!(count)),
        ("random_input_len", json!(args.prompt)),
        ("random_output_len", json!(args.tokens)),
        ("seed", json!(args.seed)),
        (
            "errors",
            json!(
                records
                    .iter()
                    .filter_map(|r| r.error.as_ref())
                    .collect::<Vec<_>>()
            ),
        ),
    ] {
        figures.insert(name.to_owned(), value);
    }
    if let Some(report) = figures_to {
        report.end_json(&json!(figures))?;
    }
    if let Some(report) = chart_to {
        report.end(&chart(&summary, &title)?)?;
    }
    match records.iter().find_map(|record| record.error.as_ref()) {
        Some(why) => Err(format!(
            "{} of {count} requests failed, the first: {why}",
            summary.failed
        )),
        None => Ok(()),
    }
}

fn title(args: &ServeBenchArgs) -> String {
    let when = match args.rate.is_finite() {
        true => format!("{} requests/s", args.rate),
        false => "all at once".to_owned(),
    };
    format!(
        "{} requests, {when}, {} tokens of prompt, {} of output",
        args.requests, args.prompt, args.tokens
    )
}

/// Asks for the rows of the served model's vocabulary: prompts are of any tokens.
async fn vocabulary(args: &ServeBenchArgs) -> Result<u32, String> {
    let mut models = client::models(&args.server).await?;
    let listed = models.list_models(ListModelsRequest::default()).await;
    let listed = listed.map_err(|status| client::in_words(&status))?;
    let model = listed.into_inner().models.into_iter().next();
    model
        .map(|model| model.vocab_size)
        .ok_or_else(|| "no model is served".to_owned())
}

fn request(args: &ServeBenchArgs, vocab: u32, random: &mut fastrand::Rng) -> GenerateRequest {
    let ids = (0..args.prompt.get())
        .map(|_| random.u32(..vocab))
        .collect();
    GenerateRequest {
        prompt: Some(Prompt::TokenIds(TokenIds { ids })),
        sampling: Some(SamplingParams {
            temperature: Some(1.0),
            seed: Some(random.u64(..)),
            ..SamplingParams::default()
        }),
        stop: Some(StopParams {
            max_output_tokens: Some(args.tokens.get()),
            ignore_eos: true,
            ..StopParams::default()
        }),
        ..GenerateRequest::default()
    }
}

/// Sends a request and notes when what comes comes.
async fn ask(
    client: GenerationServiceClient<Channel>,
    request: GenerateRequest,
    start: Instant,
) -> Record {
    let sent = Instant::now();
    let input = match &request.prompt {
        Some(Prompt::TokenIds(tokens)) => tokens.ids.len(),
        _ => 0,
    };
    let mut record = Record {
        sent: (sent - start).as_secs_f64(),
        input,
        ..Record::default()
    };
    let heard = timeout(LONGEST, listen(client, request, sent, &mut record)).await;
    record.error = match heard {
        Ok(Ok(())) => None,
        Ok(Err(status)) => Some(client::in_words(&status)),
        Err(_) => Some(format!("no end after {} s", LONGEST.as_secs())),
    };
    if record.error.is_some() {
        record.total = sent.elapsed().as_secs_f64();
    }
    record
}

async fn listen(
    mut client: GenerationServiceClient<Channel>,
    request: GenerateRequest,
    sent: Instant,
    record: &mut Record,
) -> Result<(), Status> {
    let mut events = client.generate(request).await?.into_inner();
    let (mut last, mut is_finished) = (sent, false);
    while let Some(response) = events.message().await? {
        let tokens = match response.event {
            Some(Event::Tokens(tokens)) => tokens,
            other => {
                is_finished |= matches!(other, Some(Event::Finished(_)));
                continue;
            }
        };
        let now = Instant::now();
        match record.output {
            0 => record.first = (now - sent).as_secs_f64(),
            _ => record.gaps.push((now - last).as_secs_f64()),
        }
        record.output += tokens.token_ids.len();
        last = now;
    }
    // As vLLM has it, what comes after the last token counts no more.
    record.total = (last - sent).as_secs_f64();
    match is_finished && record.output > 0 {
        true => Ok(()),
        false => Err(Status::data_loss(
            "the stream ended before its end was told",
        )),
    }
}

fn table(summary: &Summary) -> String {
    let [requests, output, all] = summary.rates();
    let mut text = format!(
        "{} answered, {} failed, in {:.1} s: {requests:.2} requests/s, {output:.1} tokens/s of output, \
         {all:.1} with prompts\n\n| milliseconds | mean | median | p90 | p99 | most |\n|---|---|---|---|---|---|\n",
        summary.completed, summary.failed, summary.duration
    );
    for (name, times) in &summary.times {
        let figures = [
            times.mean(),
            times.median(),
            times.percentile(90.0),
            times.percentile(99.0),
            times.max(),
        ];
        let figures = figures.map(|millis| format!("{millis:.1}")).join(" | ");
        text.push_str(&format!("| {} | {figures} |\n", name.to_uppercase()));
    }
    text
}
