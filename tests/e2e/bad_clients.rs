//! Clients that ask for nonsense or for too much, that do not read, or vanish, over real sockets: each is
//! told at once, nobody else notices, and the coordinator stays small.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Cluster, Setup, binary, children_of, post_within, tool};
use prost::Message as _;
use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::{
    ChatRequest, GenerateRequest, GenerateResponse, GenerationState, LogprobParams, Message, Role,
    StopParams, StreamParams, TokenIds,
};
use serde_json::json;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::generations::{ENDLESS, named, reason, rest, run, soon, tokens, wait_for, with_client};

/// What must happen at once happens within this time, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Longest wait for what takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// How curl ends where a stream of HTTP/2 does.
const CURL_STREAM_ERROR: i32 = 92;

/// Most bytes that a client takes by default.
const CLIENT_LIMIT: usize = 4 << 20;

fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.expect("every refusal has a reason").reason
}

/// One sequence at a time, and few that wait.
fn small_cluster() -> Cluster {
    Cluster::start(&Setup {
        kv_memory: "64MiB",
        arguments: ["--max-sequences", "1", "--max-waiting", "8"]
            .map(str::to_owned)
            .to_vec(),
        ..Setup::mini(1)
    })
}

/// A request of a later version: as GenerateRequest, and more.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterRequest {
    #[prost(string, tag = "2")]
    request_id: String,
    #[prost(string, tag = "4")]
    text: String,
    #[prost(message, optional, tag = "6")]
    stop: Option<StopParams>,
    #[prost(string, repeated, tag = "900")]
    later: Vec<String>,
}

#[test]
fn fields_of_a_later_version_are_passed_over_and_values_are_refused_by_name() {
    let cluster = &Cluster::start(&Setup::mini(1));
    with_client(cluster, |mut client| async move {
        let known = run(&mut client, named("known", 5)).await.unwrap();
        assert_eq!(tokens(&known).len(), 5);
        let later = LaterRequest {
            request_id: "later".into(),
            text: "a story".into(),
            stop: named("later", 5).stop,
            later: vec!["something".into(); 3],
        };
        let channel = tonic::transport::Channel::from_shared(cluster.grpc().to_owned());
        let mut raw = tonic::client::Grpc::new(channel.unwrap().connect().await.unwrap());
        raw.ready().await.unwrap();
        let path = "/conclave.v1.GenerationService/Generate".parse().unwrap();
        let codec = ProstCodec::<LaterRequest, GenerateResponse>::default();
        let stream = raw.server_streaming(Request::new(later), path, codec).await;
        let heard = rest(&mut stream.unwrap().into_inner()).await.unwrap();
        assert_eq!(tokens(&heard).len(), 5);

        let policy = GenerateRequest {
            stream: Some(StreamParams {
                on_disconnect: 77,
                ..Default::default()
            }),
            ..named("policy", 5)
        };
        let delivery = GenerateRequest {
            stream: Some(StreamParams {
                delivery: -1,
                ..Default::default()
            }),
            ..named("delivery", 5)
        };
        let cases = [
            (policy, "stream.on_disconnect"),
            (delivery, "stream.delivery"),
        ];
        for (request, field) in cases {
            let status = run(&mut client, request).await.unwrap_err();
            check_field(&status, field);
        }
        let message = |role, channel| Message {
            role,
            channel,
            text: "x".into(),
            ..Default::default()
        };
        let said = |messages| ChatRequest {
            messages,
            ..Default::default()
        };
        let user = message(Role::User.into(), 0);
        let effort = ChatRequest {
            reasoning_effort: 99,
            ..said(vec![user.clone()])
        };
        let cases = [
            (said(vec![user.clone(), message(99, 0)]), "messages[1].role"),
            (
                said(vec![message(Role::Assistant.into(), 99), user]),
                "messages[0].channel",
            ),
            (effort, "reasoning_effort"),
        ];
        for (request, field) in cases {
            let status = client.chat(request).await.unwrap_err();
            check_field(&status, field);
        }
    });
}

fn check_field(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, field, "{status}");
    assert_eq!(reason_of(status), "FIELD_INVALID");
}

/// Calls with a deadline in the header's own words, and with curl, which has no clock of its own for it;
/// returns the status' number and its message, escaped.
fn with_timeout(curl: &OsStr, cluster: &Cluster, timeout: &str) -> (u32, String) {
    let message = named("", ENDLESS).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0], &length[..], &message].concat();
    let path = "conclave.v1.GenerationService/Generate";
    let url = format!("{}/{path}", cluster.grpc());
    let timeout = format!("grpc-timeout: {timeout}");
    let said = loop {
        let mut call = Command::new(curl);
        call.args(["--silent", "--http2-prior-knowledge", "--max-time", "30"]);
        call.args(["--header", "content-type: application/grpc"]);
        call.args(["--header", "te: trailers", "--header", &timeout]);
        // Headers and trailers are wanted, and the body is not.
        call.args(["--dump-header", "-", "--output", "/dev/null"]);
        call.args(["--data-binary", "@-", &url]);
        call.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut call = call.spawn().expect("the program 'curl' runs");
        call.stdin.take().unwrap().write_all(&framed).unwrap();
        let output = call.wait_with_output().unwrap();
        // It may lose an answer that comes before the request was sent.
        if output.status.code() != Some(CURL_STREAM_ERROR) {
            break String::from_utf8(output.stdout).unwrap();
        }
    };
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
    let status = field("grpc-status: ");
    let status = status.unwrap_or_else(|| panic!("{timeout}: no status in {said}"));
    let message = field("grpc-message: ").unwrap_or_default();
    (status.trim().parse().unwrap(), message.to_owned())
}

#[test]
fn a_deadline_that_has_passed_or_is_none_is_refused_at_once() {
    let Some(curl) = tool("CONCLAVE_TEST_CURL", "deadlines that have passed") else {
        return;
    };
    let cluster = Cluster::start(&Setup::mini(1));
    let passed = Code::DeadlineExceeded as u32;
    for past in ["0n", "1n", "0S"] {
        let begun = Instant::now();
        let (code, message) = with_timeout(&curl, &cluster, past);
        assert_eq!(code, passed, "{past}: {message}");
        assert!(begun.elapsed() < AT_ONCE);
    }
    for wrong in ["-1S", "1.5S", "123456789S", "soon"] {
        let (code, message) = with_timeout(&curl, &cluster, wrong);
        assert_eq!(code, Code::InvalidArgument as u32, "{wrong}: {message}");
        assert!(message.starts_with("grpc-timeout"), "{message}");
    }
    // In the middle of the stream, which nobody but the server ends.
    let (code, message) = with_timeout(&curl, &cluster, "700m");
    assert_eq!(code, passed, "{message}");
    assert!(message.contains("passed%20after%20event"), "{message}");
}

/// Most bytes that a process has had resident, as far as the system counts exactly.
fn peak(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes << 10
}

#[test]
fn prompts_of_16_mib_are_refused_and_cost_little() {
    let cluster = Cluster::start(&Setup::mini(1));
    let coordinator = children_of(cluster.id(), "coordinator")[0];
    let before = peak(coordinator);
    with_client(&cluster, |mut client| async move {
        let prompt = |bytes: usize| GenerateRequest {
            prompt: Some(Prompt::Text("word ".repeat(bytes / 5))),
            ..Default::default()
        };
        for _ in 0..3 {
            // Just below the limit of a request: read, and seen not to fit the context.
            let begun = Instant::now();
            let status = run(&mut client, prompt((16 << 20) - 100))
                .await
                .unwrap_err();
            check_field(&status, "prompt");
            let above = run(&mut client, prompt((16 << 20) + 100))
                .await
                .unwrap_err();
            assert_eq!(above.code(), Code::InvalidArgument, "{above}");
            assert_eq!(reason_of(&above), "REQUEST_TOO_LONG");
            assert!(begun.elapsed() < 2 * AT_ONCE, "{:?}", begun.elapsed());
        }
        let good = run(&mut client, named("good", 5)).await.unwrap();
        assert_eq!(tokens(&good).len(), 5);
    });
    let body = json!({"prompt": "word ".repeat((16 << 20) / 5)});
    let answer = post_within(&cluster.url("/v1/completions"), &body, PATIENCE);
    assert_eq!(answer.status, 413, "{}", answer.text);
    let grown = peak(coordinator).saturating_sub(before);
    assert!(grown < 300 << 20, "it took {} MiB more", grown >> 20);
}

/// Begins a long request and leaves it there: all but the last of its bytes.
fn long_request(cluster: &Cluster) -> TcpStream {
    let address = cluster.url("").replace("http://", "");
    let mut socket = TcpStream::connect(address).unwrap();
    let body = format!("{{\"prompt\": \"{}", "x".repeat(2 << 20));
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len() + 2
    );
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Where it is refused early it may not be read to here.
    socket.write_all(head.as_bytes()).ok();
    socket
}

/// Says how a request was answered so far: nothing, or its head.
fn answer_within(mut socket: &TcpStream, time: Duration) -> String {
    socket.set_read_timeout(Some(time)).unwrap();
    let mut head = [0; 1024];
    let read = socket.read(&mut head).unwrap_or(0);
    String::from_utf8_lossy(&head[..read]).into_owned()
}

#[test]
fn requests_that_never_end_leave_room_for_others() {
    let cluster = Cluster::start(&Setup::mini(1));
    let url = cluster.url("/v1/completions");
    let ordinary = json!({"prompt": "x", "max_tokens": 2, "ignore_eos": true});
    let held: Vec<TcpStream> = (0..8).map(|_| long_request(&cluster)).collect();
    for socket in &held {
        let none = answer_within(socket, Duration::from_millis(50));
        assert_eq!(none, "", "it waits for the rest");
    }
    let ninth = answer_within(&long_request(&cluster), AT_ONCE);
    assert!(ninth.starts_with("HTTP/1.1 429 "), "{ninth}");
    assert!(
        ninth.to_lowercase().contains("\r\nretry-after: 1\r\n"),
        "{ninth}"
    );
    with_client(&cluster, |mut client| async move {
        let long = GenerateRequest {
            prompt: Some(Prompt::Text("x".repeat(2 << 20))),
            ..Default::default()
        };
        let status = run(&mut client, long).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(reason_of(&status), "TOO_MANY_REQUESTS");
        assert!(status.get_details_retry_info().is_some());
    });
    // Ordinary ones go their own way.
    assert_eq!(post_within(&url, &ordinary, AT_ONCE).status, 200);
    // Whoever goes makes room.
    drop(held);
    e2e::wait_until("there is room again", PATIENCE, || {
        let mut socket = long_request(&cluster);
        socket.write_all(b"\"}").ok();
        // The prompt is too long for the context: it was read.
        answer_within(&socket, PATIENCE).starts_with("HTTP/1.1 400 ")
    });
}

#[test]
fn a_flood_is_refused_at_once_and_passes() {
    let cluster = small_cluster();
    with_client(&cluster, |client| async move {
        const FLOOD: usize = 400;
        let begun = Instant::now();
        let calls = (0..FLOOD).map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let stream = client.generate(named("", ENDLESS)).await;
                let mut stream = stream.map_err(|status| (status, begun.elapsed()))?;
                // Its first event, or why there is none.
                let first = stream.get_mut().message().await;
                first.map_err(|status| (status, begun.elapsed()))?;
                Ok::<_, (Status, Duration)>(stream.into_inner())
            })
        });
        let calls: Vec<_> = calls.collect();
        let (mut taken, mut refused) = (Vec::new(), 0);
        for call in calls {
            match soon(call).await.unwrap() {
                Ok(stream) => taken.push(stream),
                Err((status, after)) => {
                    refused += 1;
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    assert_eq!(reason_of(&status), "QUEUE_FULL");
                    let delay = status.get_details_retry_info().unwrap().retry_delay;
                    assert_eq!(delay, Some(Duration::from_secs(1)));
                    assert!(after < AT_ONCE, "refused after {after:?}");
                }
            }
        }
        // One runs, and eight wait; one more may have come while the first left the queue.
        assert!(
            (9..=10).contains(&taken.len()),
            "{} were taken",
            taken.len()
        );
        assert_eq!(refused + taken.len(), FLOOD);
        drop(taken);
        // The server hears a moment later that they are gone; until then it says when to try again.
        let mut client = client;
        let again = async {
            loop {
                match run(&mut client, named("after", 5)).await {
                    Ok(heard) => return heard,
                    Err(status) => assert_eq!(reason_of(&status), "QUEUE_FULL"),
                }
            }
        };
        assert_eq!(tokens(&soon(again).await).len(), 5);
    });
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let cluster = &Cluster::start(&Setup::mini(1));
    let coordinator = children_of(cluster.id(), "coordinator")[0];
    with_client(cluster, |mut client| async move {
        let talkative = |id: &str| GenerateRequest {
            logprobs: Some(LogprobParams {
                output: true,
                top: 20,
                prompt: false,
            }),
            ..named(id, ENDLESS)
        };
        let mut unread = Vec::new();
        for index in 0..8 {
            // Each on a connection of its own, so that only its own window fills.
            let endpoint = tonic::transport::Endpoint::from_shared(cluster.grpc().to_owned());
            let channel = endpoint.unwrap().connect().await.unwrap();
            let mut own = crate::generations::Client::new(channel);
            let request = talkative(&format!("unread-{index}"));
            let mut stream = own.generate(request).await.unwrap().into_inner();
            // A generation is known once it has been accepted; no more of it is read.
            soon(stream.message()).await.unwrap();
            unread.push(stream);
        }
        wait_for(&mut client, "unread-7", GenerationState::Decoding).await;
        let before = peak(coordinator);
        let begun = Instant::now();
        let others = run(&mut client, named("read", 300)).await.unwrap();
        assert_eq!(tokens(&others).len(), 300);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        let grown = peak(coordinator).saturating_sub(before);
        assert!(grown < 200 << 20, "it took {} MiB more", grown >> 20);
        // What was not read is all there once somebody reads.
        let mut one = unread.swap_remove(0);
        drop(unread);
        let mut heard = Vec::new();
        while tokens(&heard).len() < 1000 {
            heard.push(soon(one.message()).await.unwrap().unwrap());
        }
        let numbers: Vec<u64> = tokens(&heard).iter().map(|(number, _)| *number).collect();
        assert!(numbers.iter().copied().eq(2..2 + numbers.len() as u64));
    });
}

#[test]
fn a_client_that_is_killed_frees_its_place() {
    let cluster = small_cluster();
    for _ in 0..3 {
        let mut client = Command::new(binary());
        client.args([
            "generate",
            "a story",
            "--ignore-eos",
            "--server",
            cluster.grpc(),
        ]);
        let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        client
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let body = json!({"prompt": "x", "max_tokens": 5, "ignore_eos": true});
    let answer = post_within(&cluster.url("/v1/completions"), &body, PATIENCE);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn no_message_is_larger_than_clients_take() {
    let cluster = Cluster::start(&Setup::mini(1));
    with_client(&cluster, |client| async move {
        let request = |id: &str, length: u32, most: u32| GenerateRequest {
            prompt: Some(Prompt::TokenIds(TokenIds {
                ids: (0..length).map(|index| 5 + index * 37 % 200).collect(),
            })),
            logprobs: Some(LogprobParams {
                output: true,
                top: 20,
                prompt: true,
            }),
            ..named(id, most)
        };
        // A client that takes no more than it does by default.
        let mut client = client.max_decoding_message_size(CLIENT_LIMIT);
        let heard = run(&mut client, request("long", 1300, 40)).await.unwrap();
        let positions = heard.iter().filter_map(|response| match &response.event {
            Some(Event::PromptLogprobs(part)) => Some(part.logprobs.len()),
            _ => None,
        });
        let positions: Vec<usize> = positions.collect();
        assert_eq!(positions.iter().sum::<usize>(), 1300);
        assert!(
            positions.iter().all(|length| *length <= 512),
            "{positions:?}"
        );
        let largest = heard.iter().map(GenerateResponse::encoded_len).max();
        assert!(largest.unwrap() < CLIENT_LIMIT / 4, "{largest:?}");
        assert_eq!(reason(&heard), proto::v1::FinishReason::Length);
        // All of it again, in as few pieces as there may be.
        let again = run(&mut client, request("long", 1300, 40)).await.unwrap();
        let largest = again.iter().map(GenerateResponse::encoded_len).max();
        assert!(largest.unwrap() < CLIENT_LIMIT / 4, "{largest:?}");
        assert_eq!(tokens(&again), tokens(&heard));
    });
}
