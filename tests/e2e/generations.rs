//! Generations by name over gRPC: attached to, resumed, kept, cancelled, put off, and cut short.

use std::time::Duration;

use e2e::{Cluster, Setup};
use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{
    CancelGenerationRequest, DisconnectPolicy, FinishReason, GenerateRequest, GenerateResponse,
    GenerationState, GetGenerationRequest, SamplingParams, SchedulingParams, StopParams,
    StreamParams,
};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

/// Longest wait for what takes a second or two; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// More tokens than a test waits for.
pub(crate) const ENDLESS: u32 = 20_000;

pub(crate) type Client = GenerationServiceClient<Channel>;

/// Runs a test against a cluster.
pub(crate) fn with_client<T: Future<Output = ()>>(
    cluster: &Cluster,
    test: impl FnOnce(Client) -> T,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client = GenerationServiceClient::connect(cluster.grpc().to_owned()).await;
        test(client.unwrap()).await;
    });
}

/// A request under this name, which says the same under any.
pub(crate) fn named(id: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        request_id: id.into(),
        prompt: Some(Prompt::Text("a story".into())),
        sampling: Some(SamplingParams {
            seed: Some(7),
            ..Default::default()
        }),
        stop: Some(StopParams {
            max_output_tokens: Some(max_tokens),
            ignore_eos: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn resumed(request: GenerateRequest, after: u64) -> GenerateRequest {
    let stream = StreamParams {
        resume_after: Some(after),
        ..request.stream.unwrap_or_default()
    };
    GenerateRequest {
        stream: Some(stream),
        ..request
    }
}

pub(crate) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it happens soon")
}

/// Reads a stream to its end.
pub(crate) async fn rest(
    stream: &mut Streaming<GenerateResponse>,
) -> Result<Vec<GenerateResponse>, Box<Status>> {
    let mut responses = Vec::new();
    while let Some(response) = soon(stream.message()).await? {
        responses.push(response);
    }
    Ok(responses)
}

pub(crate) async fn run(
    client: &mut Client,
    request: impl tonic::IntoRequest<GenerateRequest>,
) -> Result<Vec<GenerateResponse>, Box<Status>> {
    let mut stream = client.generate(request).await?.into_inner();
    rest(&mut stream).await
}

/// The tokens by number, each once.
pub(crate) fn tokens(responses: &[GenerateResponse]) -> Vec<(u64, u32)> {
    let mut tokens = Vec::new();
    for response in responses {
        if let Some(Event::Tokens(chunk)) = &response.event {
            let first = response.sequence + 1 - chunk.token_ids.len() as u64;
            tokens.extend((first..).zip(chunk.token_ids.iter().copied()));
        }
    }
    tokens
}

pub(crate) fn reason(responses: &[GenerateResponse]) -> FinishReason {
    match &responses.last().unwrap().event {
        Some(Event::Finished(finished)) => finished.reason(),
        other => panic!("the last event is {other:?}"),
    }
}

/// How long it waited in the queue.
fn queued(responses: &[GenerateResponse]) -> Duration {
    let Some(Event::Finished(finished)) = &responses.last().unwrap().event else {
        panic!("{responses:?}")
    };
    let queued = finished.timings.unwrap().queued.unwrap();
    queued.try_into().unwrap()
}

async fn state_of(client: &mut Client, id: &str) -> GenerationState {
    let get = GetGenerationRequest {
        generation_id: id.into(),
    };
    let answer = client.get_generation(get).await.unwrap();
    answer.into_inner().state()
}

pub(crate) async fn wait_for(client: &mut Client, id: &str, state: GenerationState) {
    let wait = async {
        while state_of(client, id).await != state {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(wait).await;
}

async fn cancel(client: &mut Client, id: &str) -> GenerationState {
    let cancel = CancelGenerationRequest {
        generation_id: id.into(),
        reason: "a test".into(),
    };
    let answer = client.cancel_generation(cancel).await.unwrap();
    answer.into_inner().state()
}

#[test]
fn a_generation_is_attached_to_resumed_and_kept_by_its_name() {
    let cluster = Cluster::start(&Setup::mini(2));
    with_client(&cluster, |mut client| async move {
        let whole = run(&mut client, named("whole", 120)).await.unwrap();
        assert_eq!(tokens(&whole).len(), 120);
        let again = run(&mut client, named("whole", 120)).await.unwrap();
        assert_eq!(tokens(&again), tokens(&whole));
        for after in [0, 1, 2, 60, 121] {
            let part = resumed(named("whole", 120), after);
            let part = tokens(&run(&mut client, part).await.unwrap());
            let all = tokens(&whole).into_iter();
            let expected: Vec<_> = all.filter(|(number, _)| *number > after).collect();
            assert_eq!(part, expected, "after {after}");
        }
        let beyond = resumed(named("whole", 120), 500);
        let status = run(&mut client, beyond).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        let other = run(&mut client, named("whole", 119)).await.unwrap_err();
        assert_eq!(other.code(), Code::AlreadyExists);

        // Its client goes in the middle and comes back; meanwhile it goes on.
        let stream = client.generate(named("kept", 120)).await.unwrap();
        let mut stream = stream.into_inner();
        let mut heard = Vec::new();
        while tokens(&heard).len() < 20 {
            heard.push(soon(stream.message()).await.unwrap().unwrap());
        }
        drop(stream);
        wait_for(&mut client, "kept", GenerationState::Succeeded).await;
        let last = heard.last().unwrap().sequence;
        let after = resumed(named("kept", 120), last);
        heard.extend(run(&mut client, after).await.unwrap());
        assert_eq!(tokens(&heard), tokens(&whole));

        // What nobody knows any more is generated again, and says the same.
        let unknown = resumed(named("forgotten", 120), 60);
        let heard = tokens(&run(&mut client, unknown).await.unwrap());
        assert_eq!(heard, tokens(&whole)[59..]);
    });
}

#[test]
fn a_generation_is_cancelled_for_all_by_its_name_and_by_its_clients_leaving() {
    let cluster = Cluster::start(&Setup::mini(2));
    with_client(&cluster, |mut client| async move {
        let stream = client.generate(named("both", ENDLESS)).await.unwrap();
        let mut one = stream.into_inner();
        soon(one.message()).await.unwrap();
        let stream = client.generate(named("both", ENDLESS)).await.unwrap();
        let mut two = stream.into_inner();
        for _ in 0..2 {
            let state = cancel(&mut client, "both").await;
            assert_eq!(state, GenerationState::Cancelled);
        }
        let (one, two) = (rest(&mut one).await.unwrap(), rest(&mut two).await.unwrap());
        assert_eq!(reason(&one), FinishReason::Cancelled);
        assert_eq!(reason(&two), FinishReason::Cancelled);
        let last = two.last().unwrap().sequence;
        assert_eq!(one.last().unwrap().sequence, last);
        let get = GetGenerationRequest {
            generation_id: "both".into(),
        };
        let standing = client.get_generation(get).await.unwrap().into_inner();
        assert_eq!(standing.last_sequence, last);
        let used = standing.usage.unwrap().output_tokens as usize;
        assert_eq!(used, tokens(&two).len());

        let leaving = GenerateRequest {
            stream: Some(StreamParams {
                on_disconnect: DisconnectPolicy::Cancel.into(),
                ..Default::default()
            }),
            ..named("leaving", ENDLESS)
        };
        let stream = client.generate(leaving).await.unwrap();
        let mut stream = stream.into_inner();
        soon(stream.message()).await.unwrap();
        drop(stream);
        wait_for(&mut client, "leaving", GenerationState::Cancelled).await;
    });
}

#[test]
fn those_who_wait_are_refused_in_time_and_called_by_their_priority() {
    let cluster = Cluster::start(&Setup {
        kv_memory: "64MiB",
        arguments: vec!["--max-sequences".into(), "1".into()],
        ..Setup::mini(1)
    });
    with_client(&cluster, |mut client| async move {
        let stream = client.generate(named("long", ENDLESS)).await.unwrap();
        let mut long = stream.into_inner();
        // A generation is known once it has been accepted.
        soon(long.message()).await.unwrap();
        wait_for(&mut client, "long", GenerationState::Decoding).await;
        let scheduled = |id: &str, scheduling| GenerateRequest {
            scheduling: Some(scheduling),
            ..named(id, 60)
        };
        let second = prost_types::Duration {
            seconds: 1,
            nanos: 0,
        };
        let impatient = SchedulingParams {
            queue_timeout: Some(second),
            ..Default::default()
        };
        let status = run(&mut client, scheduled("impatient", impatient)).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "QUEUE_TIMEOUT");
        assert!(status.get_details_retry_info().is_some());

        let mut hurried = Request::new(named("hurried", 5));
        let timeout = "3S".parse().unwrap();
        hurried.metadata_mut().insert("grpc-timeout", timeout);
        let status = run(&mut client, hurried).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        wait_for(&mut client, "hurried", GenerationState::Failed).await;

        let mut waiting = Vec::new();
        for (id, priority) in [("low", -1), ("first", 0), ("second", 0), ("high", 1)] {
            let scheduling = SchedulingParams {
                priority,
                ..Default::default()
            };
            let stream = client.generate(scheduled(id, scheduling)).await.unwrap();
            let mut stream = stream.into_inner();
            // It is in the queue once it has been accepted.
            soon(stream.message()).await.unwrap();
            waiting.push((id, std::time::Instant::now(), stream));
        }
        cancel(&mut client, "long").await;
        rest(&mut long).await.unwrap();
        let mut begun = Vec::new();
        for (id, accepted, mut stream) in waiting {
            let heard = rest(&mut stream).await.unwrap();
            begun.push((accepted + queued(&heard), id));
        }
        begun.sort_unstable();
        let order: Vec<_> = begun.into_iter().map(|(_, id)| id).collect();
        assert_eq!(order, ["high", "first", "second", "low"]);
        // The deadline is no part of the request: it goes on without one.
        let again = run(&mut client, named("hurried", 5)).await.unwrap();
        assert_eq!(tokens(&again).len(), 5);
    });
}
