//! Calls that are repeated: they attach, they resume, and a lost lead is found again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coordinator::front::FrontConfig;
use prost::Message as _;
use proto::internal::follow_response::Event as Said;
use proto::v1::generate_response::Event;
use proto::v1::{self, FinishReason, GenerationState};
use spec::TokenId;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::generate::{chunks, end, request, run, text};
use crate::stage::{
    Cue, Stage, accept, always, finished, ids, patient, play, refusal, running, soon, special,
    tokenizer, tokens,
};
use crate::{chat, http};

const ANSWER: &str = "<|channel|>analysis<|message|>Easy as pie.<|end|>\
    <|start|>assistant<|channel|>final<|message|>Hello there, how are you?<|return|>";

fn named(id: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        request_id: id.into(),
        ..request("x")
    }
}

fn resumed(request: v1::GenerateRequest, after: u64) -> v1::GenerateRequest {
    let stream = v1::StreamParams {
        resume_after: Some(after),
        ..Default::default()
    };
    v1::GenerateRequest {
        stream: Some(stream),
        ..request
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// One entry for each token, and for each other event, by number.
fn by_number(responses: &[v1::GenerateResponse]) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    for response in responses {
        let last = response.sequence;
        match &response.event {
            Some(Event::Tokens(chunk)) => {
                let first = last + 1 - chunk.token_ids.len() as u64;
                let ids = (first..).zip(&chunk.token_ids);
                events.extend(ids.map(|(at, id)| (at, id.to_string())));
            }
            Some(Event::Finished(finished)) => events.push((last, format!("{:?}", finished.usage))),
            Some(Event::Started(started)) => events.push((last, started.generation_id.clone())),
            Some(Event::Warning(_)) => {}
            other => events.push((last, format!("{other:?}"))),
        }
    }
    events
}

#[tokio::test]
async fn a_repeated_request_attaches_and_hears_everything_again() {
    let mut output = ids("one two three");
    output.push(special("<|return|>"));
    let mut stage = Stage::new(always(output)).await;
    let first = run(&stage, named("r")).await;
    let second = run(&stage, named("r")).await;
    assert_eq!(by_number(&first), by_number(&second));
    let (first, second) = (stage.followed().await, stage.followed().await);
    assert_eq!(first.fingerprint.len(), 32);
    assert_eq!(first.fingerprint, second.fingerprint);
    // How it is delivered is another call's own.
    let delivered = v1::GenerateRequest {
        stream: Some(v1::StreamParams {
            delivery: v1::Delivery::FinalOnly.into(),
            ..Default::default()
        }),
        ..named("r")
    };
    assert_eq!(chunks(&run(&stage, delivered).await).count(), 1);
}

#[tokio::test]
async fn a_call_that_attaches_hears_at_once_what_the_cache_saved() {
    let stage = Stage::new(|record| {
        let mut cues = play(record, &[special("<|return|>")]);
        cues[0] = Cue::Say(Said::Accepted(proto::internal::Accepted {
            attached: true,
            cached_prompt_tokens: 7,
            ..Default::default()
        }));
        Ok(cues)
    })
    .await;
    let raw = run(&stage, named("r")).await;
    let Some(Event::Started(started)) = &raw[0].event else {
        panic!("{raw:?}")
    };
    assert_eq!(started.cached_prompt_tokens, 7);
    let chat = chat::run(&stage, chat::request("Hi")).await;
    let Some(v1::chat_response::Event::Started(started)) = &chat[0].event else {
        panic!("{chat:?}")
    };
    assert_eq!(started.cached_prompt_tokens, 7);
}

#[tokio::test]
async fn another_request_of_the_same_name_is_refused() {
    let stage = Stage::new(always(vec![special("<|return|>")])).await;
    run(&stage, named("r")).await;
    let other = v1::GenerateRequest {
        request_id: "r".into(),
        ..request("y")
    };
    let stream = stage.client().generate(other).await.unwrap().into_inner();
    let status = stream.map(Result::unwrap_err).next().await.unwrap();
    assert_eq!(status.code(), Code::AlreadyExists);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("REQUEST_ID_REUSED", "conclave")
    );
    assert!(status.get_details_retry_info().is_none());
}

#[tokio::test]
async fn a_stream_is_resumed_after_any_of_its_numbers() {
    let mut output = ids("one two three four");
    output.push(special("<|return|>"));
    let stage = Stage::new(always(output)).await;
    let whole = by_number(&run(&stage, named("r")).await);
    let last = whole.last().unwrap().0;
    for after in 0..=last {
        let rest = run(&stage, resumed(named("r"), after)).await;
        let expected: Vec<_> = whole
            .iter()
            .filter(|(at, _)| *at > after)
            .cloned()
            .collect();
        assert_eq!(by_number(&rest), expected, "after {after}");
    }
    let beyond = resumed(named("r"), last + 1);
    let stream = stage.client().generate(beyond).await.unwrap().into_inner();
    let status = stream.map(Result::unwrap_err).next().await.unwrap();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "stream.resume_after");
}

#[tokio::test]
async fn a_chat_is_resumed_after_any_of_its_numbers() {
    let stage = Stage::new(always(ids(ANSWER))).await;
    let ask = |after| v1::ChatRequest {
        request_id: "c".into(),
        stream: Some(v1::StreamParams {
            resume_after: after,
            ..Default::default()
        }),
        ..chat::request("Hi")
    };
    let whole = chat::run(&stage, ask(None)).await;
    let last = whole.last().unwrap().sequence;
    for after in 0..=last {
        let rest = chat::run(&stage, ask(Some(after))).await;
        // Each token came by itself, so that the messages are cut alike.
        let expected: Vec<_> = whole.iter().filter(|said| said.sequence > after).collect();
        assert_eq!(rest.len(), expected.len(), "after {after}");
        for (rest, expected) in rest.iter().zip(expected) {
            assert_eq!(rest.sequence, expected.sequence);
            if !matches!(rest.event, Some(v1::chat_response::Event::Finished(_))) {
                assert_eq!(rest.event, expected.event);
            }
        }
    }
}

#[tokio::test]
async fn a_number_that_is_yet_to_come_is_waited_for() {
    let config = FrontConfig {
        heartbeat: Duration::from_millis(20),
        ..patient()
    };
    let stage = Stage::with_config(config, |request| {
        let said = tokens(request.tokens.len(), &ids("ab cd"));
        Ok(vec![accept(), running(), said, Cue::Hang])
    })
    .await;
    let waits = resumed(named("w"), 50);
    let mut stream = stage.client().generate(waits).await.unwrap().into_inner();
    let heard = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(heard.sequence, 50);
    assert!(matches!(heard.event, Some(Event::Heartbeat(_))));
}

#[tokio::test]
async fn the_lead_hears_how_long_to_keep_it_and_until_when() {
    let mut stage = Stage::new(always(vec![special("<|return|>")])).await;
    run(&stage, request("x")).await;
    let plain = stage.asked().await;
    assert_eq!((plain.keep_us, plain.deadline_us), (None, None));
    let mut call = Request::new(v1::GenerateRequest {
        scheduling: Some(v1::SchedulingParams {
            priority: -7,
            queue_timeout: seconds(9),
            ..Default::default()
        }),
        ..named("k")
    });
    call.set_timeout(Duration::from_secs(60));
    let stream = stage.client().generate(call).await.unwrap().into_inner();
    let _all: Vec<_> = stream.collect().await;
    let kept = stage.asked().await;
    assert_eq!(kept.keep_us, Some(30_000_000));
    let left = kept.queue_timeout_us.unwrap();
    assert!((1..=9_000_000).contains(&left), "{left}");
    let deadline = kept.deadline_us.unwrap();
    assert!((50_000_000..=60_000_000).contains(&deadline), "{deadline}");
    assert_eq!(kept.record.unwrap().priority, -7);
    let stream = v1::StreamParams {
        keep_for: seconds(5),
        ..Default::default()
    };
    let longer = v1::GenerateRequest {
        stream: Some(stream),
        ..request("x")
    };
    run(&stage, longer).await;
    assert_eq!(stage.asked().await.keep_us, Some(5_000_000));
}

/// Ends the first stream after two tokens, as a lead that dies, and plays all of it afterwards.
fn dies_once(
    output: Vec<u32>,
) -> impl Fn(&proto::internal::SequenceRecord) -> Result<Vec<Cue>, tonic::Status> {
    let played = Arc::new(AtomicUsize::new(0));
    move |record| {
        let mut cues = play(record, &output);
        if played.fetch_add(1, Ordering::SeqCst) == 0 {
            cues.truncate(4);
        }
        Ok(cues)
    }
}

/// Ends the first stream after so many cues, as a lead that is no more, and takes no others.
fn leads_no_more(
    output: Vec<u32>,
    after: usize,
) -> impl Fn(&proto::internal::SequenceRecord) -> Result<Vec<Cue>, tonic::Status> {
    let played = AtomicUsize::new(0);
    move |record| {
        let mut cues = play(record, &output);
        cues.truncate(after);
        match played.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(cues),
            _ => Err(refusal(Code::Unavailable, "NOT_LEADER", "no more")),
        }
    }
}

/// Plays all of it as the lead of the second term, who takes it for new.
fn leads_next(
    output: Vec<u32>,
) -> impl Fn(&proto::internal::SequenceRecord) -> Result<Vec<Cue>, tonic::Status> {
    move |record| {
        let mut cues = play(record, &output);
        cues[0] = Cue::Say(Said::Accepted(proto::internal::Accepted {
            term: 2,
            ..Default::default()
        }));
        Ok(cues)
    }
}

/// Looks for a lost lead for longer than any test.
fn holding() -> FrontConfig {
    FrontConfig {
        hold: Duration::from_secs(600),
        ..patient()
    }
}

#[tokio::test]
async fn a_stream_goes_on_at_the_lead_that_comes_after() {
    let output = [ids("one two three four"), vec![special("<|return|>")]].concat();
    let undisturbed = run(&Stage::new(always(output.clone())).await, named("f")).await;
    for collected in [true, false] {
        let mut next = Stage::new(leads_next(output.clone())).await;
        if collected {
            run(&next, named("f")).await;
            next.asked().await;
        }
        let script = leads_no_more(output.clone(), 4);
        let mut stage = Stage::with_config(holding(), script).await;
        let stream = stage.client().generate(named("f")).await.unwrap();
        let mut stream = stream.into_inner();
        let mut responses = vec![soon(stream.next()).await.unwrap().unwrap()];
        let begun = Instant::now();
        assert_eq!(stage.asked().await.tokens_seen, 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = begun.elapsed();
        stage.leads.send_replace(next.leads.borrow().clone());
        responses.extend(soon(stream.map(Result::unwrap).collect::<Vec<_>>()).await);
        assert_eq!(by_number(&responses), by_number(&undisturbed));
        let timings = end(&responses).timings.unwrap();
        assert_eq!(timings.resumed_on_other_node, 1);
        let again = next.asked().await;
        assert_eq!((again.tokens_seen, again.attach_only), (2, collected));
        if !collected {
            assert_eq!(again.generated, output[..2]);
        }
        // The next lead says that the request has just come; its client knows better.
        let total = Duration::try_from(timings.total.unwrap()).unwrap();
        assert!(total >= before, "{total:?} of {before:?}");
    }
}

#[tokio::test]
async fn a_stream_says_that_it_goes_on_at_another_lead() {
    let next = Stage::new(leads_next(ids(ANSWER))).await;
    let stage = Stage::with_config(holding(), leads_no_more(ids(ANSWER), 6)).await;
    let other = Stage::with_config(holding(), leads_no_more(ids(ANSWER), 6)).await;
    let request = v1::ChatRequest {
        request_id: "c".into(),
        ..chat::request("Hi")
    };
    let stream = stage.client().chat(request.clone()).await.unwrap();
    let mut stream = stream.into_inner();
    let mut chat = vec![soon(stream.next()).await.unwrap().unwrap()];
    stage.leads.send_replace(next.leads.borrow().clone());
    chat.extend(soon(stream.map(Result::unwrap).collect::<Vec<_>>()).await);
    let warned = |said: &v1::ChatResponse| match &said.event {
        Some(v1::chat_response::Event::Warning(warning)) => Some(warning.reason.clone()),
        _ => None,
    };
    let reasons: Vec<_> = chat.iter().filter_map(warned).collect();
    assert_eq!(reasons, ["RESUMED"]);
    let at = chat.iter().position(|said| warned(said).is_some()).unwrap();
    assert_eq!(chat[at].sequence, chat[at - 1].sequence);
    assert!(chat[at + 1].sequence > chat[at].sequence, "{chat:?}");
    let undisturbed = chat::run(&Stage::new(always(ids(ANSWER))).await, request).await;
    assert_eq!(chat::messages(&chat), chat::messages(&undisturbed));

    let stream = other.client().generate(named("g")).await.unwrap();
    let mut stream = stream.into_inner();
    let mut raw = vec![soon(stream.next()).await.unwrap().unwrap()];
    other.leads.send_replace(next.leads.borrow().clone());
    raw.extend(soon(stream.map(Result::unwrap).collect::<Vec<_>>()).await);
    let warnings = raw.iter().filter_map(|said| match &said.event {
        Some(Event::Warning(warning)) => Some(warning.reason.as_str()),
        _ => None,
    });
    assert_eq!(warnings.collect::<Vec<_>>(), ["RESUMED"]);
}

#[tokio::test]
async fn a_front_that_drains_takes_its_streams_to_the_next_lead() {
    let output = [ids("one two three four"), vec![special("<|return|>")]].concat();
    let next = Stage::new(always(output.clone())).await;
    let stage = Stage::with_config(holding(), leads_no_more(output.clone(), 4)).await;
    let stream = stage.client().generate(named("f")).await.unwrap();
    let mut stream = stream.into_inner();
    let mut responses = vec![soon(stream.next()).await.unwrap().unwrap()];
    let moved = async {
        // Whoever follows the leads has heard by then that the front drains.
        soon(async { while http::get(stage.http, "/readyz").await.body != "shutting down\n" {} })
            .await;
        stage.leads.send_replace(next.leads.borrow().clone());
        soon(stream.map(Result::unwrap).collect::<Vec<_>>()).await
    };
    let drained = stage.front.drain(Duration::from_secs(15));
    let ((), rest) = tokio::join!(biased; drained, moved);
    responses.extend(rest);
    let undisturbed = run(&Stage::new(always(output)).await, named("f")).await;
    assert_eq!(by_number(&responses), by_number(&undisturbed));
}

#[tokio::test]
async fn a_stream_with_logprobs_is_generated_again() {
    let mut output = ids("one two three four");
    output.push(special("<|return|>"));
    let mut stage = Stage::new(dies_once(output.clone())).await;
    let request = v1::GenerateRequest {
        logprobs: Some(v1::LogprobParams {
            output: true,
            ..Default::default()
        }),
        ..named("l")
    };
    let mut stream = stage.client().generate(request).await.unwrap().into_inner();
    let mut responses = vec![soon(stream.next()).await.unwrap().unwrap()];
    stage.forget();
    responses.extend(soon(stream.map(Result::unwrap).collect::<Vec<_>>()).await);
    let logprobs: usize = chunks(&responses).map(|chunk| chunk.logprobs.len()).sum();
    assert_eq!(logprobs, output.len());
    stage.asked().await;
    assert!(stage.asked().await.generated.is_empty());
}

#[tokio::test]
async fn a_lead_that_stays_away_ends_the_stream_as_unavailable() {
    let stage = Stage::new(|_| Ok(vec![accept()])).await;
    let stream = stage
        .client()
        .generate(named("u"))
        .await
        .unwrap()
        .into_inner();
    let status = soon(stream.filter_map(Result::err).next()).await.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn a_lead_that_never_answers_ends_the_stream_as_unavailable() {
    let stage = Stage::new(|_| Ok(vec![Cue::Hang])).await;
    let stream = stage.client().generate(named("s")).await.unwrap();
    let mut stream = stream.into_inner();
    let status = soon(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "LEAD_GONE");
    let body = serde_json::json!({"prompt": "x"});
    let answer = soon(http::complete(stage.http, body)).await;
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[tokio::test]
async fn enough_reasoning_is_ended_and_the_answer_begins() {
    let long = format!(
        "<|channel|>analysis<|message|>{}<|end|>",
        "think ".repeat(50)
    );
    for together in [false, true] {
        let output = ids(&long);
        let stage = Stage::new(move |record| match together {
            false => Ok(play(record, &output)),
            true => Ok(vec![
                accept(),
                tokens(record.tokens.len(), &output),
                Cue::Hang,
            ]),
        })
        .await;
        let request = v1::ChatRequest {
            request_id: "t".into(),
            stop: Some(v1::StopParams {
                max_reasoning_tokens: Some(4),
                ..Default::default()
            }),
            ..chat::request("Hi")
        };
        let whole = soon(chat::run(&stage, request.clone())).await;
        let messages = chat::messages(&whole);
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert_eq!(ids(&messages[0].text).len(), 4);
        assert_eq!(messages[1].text, "ok");
        let Some(v1::chat_response::Event::Finished(finished)) = &whole.last().unwrap().event
        else {
            panic!("{whole:?}")
        };
        assert_eq!(finished.reason(), FinishReason::Stop);
        assert_eq!(finished.usage.unwrap().reasoning_tokens, 4);
        // Who comes later hears the same.
        let again = soon(chat::run(&stage, request)).await;
        assert_eq!(
            again.last().unwrap().sequence,
            whole.last().unwrap().sequence
        );
        assert_eq!(chat::messages(&again), messages);
        let get = v1::GetGenerationRequest {
            generation_id: "t".into(),
        };
        let standing = stage
            .client()
            .get_generation(get)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(standing.state(), GenerationState::Succeeded);
        assert_eq!(standing.last_sequence, whole.last().unwrap().sequence);
        assert_eq!(standing.usage, finished.usage);
    }
}

#[tokio::test]
async fn text_is_held_to_be_sent_together() {
    let stage = Stage::new(|record| {
        let mut cues = play(record, &ids("one two three four five"));
        cues.retain(|cue| !matches!(cue, Cue::Hang));
        cues.push(Cue::Hang);
        Ok(cues)
    })
    .await;
    let stream = v1::StreamParams {
        coalesce: Some(prost_types::Duration {
            seconds: 0,
            nanos: 300_000_000,
        }),
        ..Default::default()
    };
    let request = v1::GenerateRequest {
        stream: Some(stream),
        ..named("h")
    };
    let mut stream = stage.client().generate(request).await.unwrap().into_inner();
    soon(stream.next()).await.unwrap().unwrap();
    let said = soon(stream.next()).await.unwrap().unwrap();
    let Some(Event::Tokens(chunk)) = &said.event else {
        panic!("{said:?}")
    };
    assert_eq!(chunk.token_ids, ids("one two three four five"));
}

#[tokio::test]
async fn the_largest_messages_are_what_clients_take() {
    // Whole characters, so that the chunks are full.
    let is_ascii = |id: &u32| {
        let bytes = tokenizer().token_bytes(TokenId(*id)).map(<[u8]>::to_vec);
        bytes.is_some_and(|bytes| bytes.is_ascii())
    };
    let output: Vec<u32> = (300..2000).filter(is_ascii).take(1000).collect();
    let stage = Stage::new(move |record| {
        let mut cues = play(record, &output);
        cues.retain(|cue| !matches!(cue, Cue::Hang));
        cues.push(finished(proto::internal::SequenceEnd::Length));
        Ok(cues)
    })
    .await;
    let request = v1::GenerateRequest {
        logprobs: Some(v1::LogprobParams {
            output: true,
            top: 20,
            prompt: false,
        }),
        stream: Some(v1::StreamParams {
            delivery: v1::Delivery::FinalOnly.into(),
            ..Default::default()
        }),
        stop: Some(v1::StopParams {
            ignore_eos: true,
            ..Default::default()
        }),
        ..named("m")
    };
    let responses = run(&stage, request).await;
    let largest = responses.iter().map(prost::Message::encoded_len).max();
    let full = chunks(&responses)
        .find(|chunk| chunk.token_ids.len() == 512)
        .unwrap();
    assert_eq!(full.logprobs[0].top.len(), 20);
    // Were every token as long as the longest of the trained models, which has 128 bytes.
    let texts = |chunk: &v1::TokenChunk| -> usize {
        let of = |logprob: &v1::TokenLogprob| {
            logprob.token.len() + logprob.top.iter().map(|top| top.token.len()).sum::<usize>()
        };
        chunk.text.len() + chunk.logprobs.iter().map(of).sum::<usize>()
    };
    let frame = full.encoded_len() - texts(full);
    let tokens = 512 * (1 + 21);
    assert!(frame + tokens * (128 + 2) < 4 << 20, "{frame} {largest:?}");
    assert!(!text(&responses).is_empty());
}

#[tokio::test]
async fn how_a_chat_stands_is_what_its_client_has_heard() {
    let stage = Stage::new(always(ids(ANSWER))).await;
    let request = v1::ChatRequest {
        request_id: "c".into(),
        stop: Some(v1::StopParams {
            stop_sequences: vec!["how".into()],
            ..Default::default()
        }),
        ..chat::request("Hi")
    };
    let heard = chat::run(&stage, request).await;
    let Some(v1::chat_response::Event::Finished(finished)) = &heard.last().unwrap().event else {
        panic!("{heard:?}")
    };
    assert_eq!(finished.reason(), FinishReason::StopSequence);
    let get = v1::GetGenerationRequest {
        generation_id: "c".into(),
    };
    let standing = stage
        .client()
        .get_generation(get)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(standing.state(), GenerationState::Succeeded);
    assert_eq!(standing.last_sequence, heard.last().unwrap().sequence);
    assert_eq!(standing.usage, finished.usage);
}
