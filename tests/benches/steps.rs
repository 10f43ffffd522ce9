//! What a step costs around its kernels: a real coordinator, and ranks that compute nothing.
//!
//! `cargo build --release -p cli && cargo bench -p e2e --bench steps -- [RANKS] [ROWS] [STEPS] [MILLISECONDS]`
//!
//! Each rank is a worker's side of the wire. All hold a step for so many milliseconds, then answer at once.
//! Told is the time from then until every one has the next step: results travel to the lead, it gathers them,
//! plans, and sends. What fronts do meanwhile (a token of each sequence) is in it.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint::Checkpoint;
use checkpoint::synth::Spec;
use e2e::{Killed, free_address};
use proto::internal as wire;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{
    Delivery, GenerateRequest, SamplingParams, StopParams, StreamParams, TokenIds, generate_request,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use wire::attend_request::Message as Attend;
use wire::cluster_service_client::ClusterServiceClient;
use wire::run_response::Message;
use wire::step_service_server::{StepService, StepServiceServer};

/// A model whose weights nobody reads.
const MODEL: &str = "tiny";
/// Steps before the first that counts, in which prompts are computed.
const BEFORE: usize = 50;
/// Tokens of each prompt.
const PROMPT: u32 = 4;
/// Streams of a connection.
const CALLS: usize = 64;
/// Longest that the coordinator may take to begin.
const BEGIN: Duration = Duration::from_secs(30);

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answers = mpsc::Sender<Result<wire::RunResponse, Status>>;

/// A step that a rank was sent.
struct Arrived {
    at: Instant,
    rank: usize,
    step: wire::RunRequest,
    answers: Answers,
}

/// A worker of one rank.
struct Stub {
    rank: usize,
    arrived: mpsc::UnboundedSender<Arrived>,
}

#[tonic::async_trait]
impl StepService for Stub {
    type PrepareStream = Sent<wire::PrepareResponse>;
    type RunStream = Sent<wire::RunResponse>;

    async fn prepare(
        &self,
        _: Request<wire::PrepareRequest>,
    ) -> Result<Response<Self::PrepareStream>, Status> {
        let ready = wire::Ready {
            kept_kv: vec![false],
            ..Default::default()
        };
        let state = Some(wire::prepare_response::State::Ready(ready));
        let ready = Ok(wire::PrepareResponse { state });
        Ok(Response::new(Box::pin(tokio_stream::once(ready))))
    }

    async fn run(
        &self,
        request: Request<Streaming<wire::RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let (answers, stream) = mpsc::channel(4);
        let (mut steps, arrived, rank) = (request.into_inner(), self.arrived.clone(), self.rank);
        tokio::spawn(async move {
            while let Ok(Some(step)) = steps.message().await {
                let at = Instant::now();
                let answers = answers.clone();
                let told = arrived.send(Arrived {
                    at,
                    rank,
                    step,
                    answers,
                });
                if told.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// What a rank answers: a token wherever one is wanted.
fn answer(step: &wire::RunRequest) -> wire::RunResponse {
    let sampled = || wire::SampledToken {
        token: 65,
        logprob: None,
    };
    let line = |line: &wire::Line| wire::LineResult {
        ran: true,
        tokens: line.samples.then(sampled).into_iter().collect(),
        prompt_logprobs: Vec::new(),
    };
    let part = |part: &wire::Part| wire::PartResult {
        rank: part.rank,
        lines: part.lines.iter().map(line).collect(),
        expert_rows: Vec::new(),
    };
    let done = wire::StepDone {
        step: step.step,
        parts: step.parts.iter().map(part).collect(),
    };
    wire::RunResponse {
        message: Some(Message::Done(done)),
    }
}

/// Serves a rank's side of the wire, and keeps it registered.
async fn work(internal: String, weights: String, stub: Stub) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let registration = wire::Registration {
        name: format!("stub-{}", stub.rank),
        incarnation: 1 + stub.rank as u64,
        address,
        wire_min: proto::WIRE_VERSION,
        wire_max: proto::WIRE_VERSION,
        build: "stub".into(),
        weights_fingerprint: weights,
        numerics: "fast-2".into(),
        num_ranks: 1,
        group: "0".into(),
        ..Default::default()
    };
    let requests = || {
        let beat = || Attend::Heartbeat(wire::Heartbeat { draining: false });
        let beats = std::iter::repeat_with(beat);
        let beats = tokio_stream::iter(beats).throttle(Duration::from_millis(500));
        tokio_stream::once(Attend::Registration(registration.clone()))
            .chain(beats)
            .map(|message| wire::AttendRequest {
                message: Some(message),
            })
    };
    tokio::spawn(
        Server::builder()
            .tcp_nodelay(true)
            .add_service(StepServiceServer::new(stub))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut lead = ClusterServiceClient::connect(internal).await.unwrap();
    let begun = Instant::now();
    let mut answers = loop {
        match lead.attend(requests()).await {
            Ok(answers) => break answers.into_inner(),
            // It listens before it leads.
            Err(status) if status.code() == Code::Unavailable && begun.elapsed() < BEGIN => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => panic!("a rank is refused: {status}"),
        }
    };
    while let Ok(Some(_)) = answers.message().await {}
}

/// A generation that lasts for so many tokens, of which nothing but its end is wanted.
async fn generate(mut client: GenerationServiceClient<Channel>, index: u32, tokens: usize) {
    let request = GenerateRequest {
        prompt: Some(generate_request::Prompt::TokenIds(TokenIds {
            ids: (0..PROMPT).map(|at| (index * PROMPT + at) % 500).collect(),
        })),
        sampling: Some(SamplingParams {
            temperature: Some(0.0),
            ..Default::default()
        }),
        stop: Some(StopParams {
            max_output_tokens: Some(tokens as u32),
            ignore_eos: true,
            ..Default::default()
        }),
        stream: Some(StreamParams {
            delivery: Delivery::FinalOnly.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = client.generate(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

/// A wait of microseconds that so many of a hundred did not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[at].as_secs_f64() * 1e6
}

/// Holds every step, answers it, and notes how long the next one took.
async fn steps(
    mut arrived: mpsc::UnboundedReceiver<Arrived>,
    (ranks, rows, count): (usize, usize, usize),
    hold: Duration,
) -> Vec<Duration> {
    let (mut waits, mut answered, mut whole) = (Vec::new(), None::<Instant>, 0);
    while waits.len() < count {
        let mut step: Vec<Arrived> = Vec::new();
        while step.len() < ranks {
            step.push(arrived.recv().await.expect("the ranks live on"));
        }
        let number = step[0].step.step;
        assert!(step.iter().all(|part| part.step.step == number), "in step");
        let last = step.iter().map(|part| part.at).max().expect("a rank");
        let parts = step.iter().flat_map(|arrived| &arrived.step.parts);
        let lines: usize = parts.map(|part| part.lines.len()).sum();
        whole += usize::from(lines == ranks * rows);
        if let Some(answered) = answered
            && whole > BEFORE
        {
            waits.push(last - answered);
        }
        tokio::time::sleep(hold).await;
        step.sort_by_key(|part| part.rank);
        let responses: Vec<_> = step.iter().map(|part| answer(&part.step)).collect();
        answered = Some(Instant::now());
        for (part, response) in step.iter().zip(responses) {
            part.answers
                .send(Ok(response))
                .await
                .expect("the lead listens");
        }
    }
    waits
}

async fn measure((ranks, rows, count): (usize, usize, usize), hold: Duration) {
    let weights = Checkpoint::synth(&Spec::parse(MODEL).unwrap()).unwrap();
    let weights = weights.fingerprint().unwrap().to_string();
    let [internal, grpc, http, admin] = std::array::from_fn(|_| free_address());
    let (ranks_told, rows_told) = (ranks.to_string(), rows.to_string());
    let _coordinator = Killed::start(&[
        "coordinator",
        "--model",
        &format!("synth:{MODEL}"),
        "--ranks",
        &ranks_told,
        "--internal",
        &internal,
        "--grpc",
        &grpc,
        "--http",
        &http,
        "--admin",
        &admin,
        "--kv-memory",
        "1GiB",
        "--max-sequences",
        &rows_told,
        "--max-step-rows",
        &rows_told,
        "--steps-in-flight",
        "1",
        "--max-waiting",
        "10000",
    ]);
    let begun = Instant::now();
    while std::net::TcpStream::connect(&internal).is_err() {
        assert!(begun.elapsed() < BEGIN, "the coordinator does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (sender, arrived) = mpsc::unbounded_channel();
    for rank in 0..ranks {
        let arrived = sender.clone();
        let internal = format!("http://{internal}");
        tokio::spawn(work(internal, weights.clone(), Stub { rank, arrived }));
    }
    let mut clients = tokio::task::JoinSet::new();
    let endpoint = Arc::new(format!("http://{grpc}"));
    for first in (0..ranks * rows).step_by(CALLS) {
        let client = GenerationServiceClient::connect(endpoint.to_string()).await;
        let client = client.unwrap();
        for index in first..(first + CALLS).min(ranks * rows) {
            // So long that all run at the end.
            let tokens = 2 * (BEFORE + count) + ranks * rows;
            clients.spawn(generate(client.clone(), index as u32, tokens));
        }
    }
    let waits = tokio::select! {
        waits = steps(arrived, (ranks, rows, count), hold) => waits,
        Some(ended) = clients.join_next() => panic!("a client ended early: {ended:?}"),
    };
    let mut sorted = waits;
    sorted.sort();
    println!(
        "| ranks | rows of each | steps | held ms | median us | 90 % us | 99 % us | most us |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {ranks} | {rows} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
        sorted.len(),
        hold.as_millis(),
        percentile(&sorted, 50),
        percentile(&sorted, 90),
        percentile(&sorted, 99),
        percentile(&sorted, 100),
    );
}

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let of = (number(0, 8), number(1, 64), number(2, 1000));
    let hold = Duration::from_millis(number(3, 10) as u64);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(of, hold));
}
