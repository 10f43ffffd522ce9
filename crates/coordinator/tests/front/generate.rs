//! GenerationService.Generate from start to finish.

use proto::v1::generate_response::Event;
use proto::v1::{self, FinishReason, generate_request::Prompt};
use tokio_stream::StreamExt as _;

use crate::stage::{
    Cue, MAX_OUTPUT, Stage, accept, always, byte_ids, finished, ids, patient, play, special, tokens,
};

/// A request for a text prompt.
pub(crate) fn request(prompt: &str) -> v1::GenerateRequest {
    let prompt = Some(Prompt::Text(prompt.into()));
    v1::GenerateRequest {
        prompt,
        ..Default::default()
    }
}

/// Runs a request that ends well.
pub(crate) async fn run(stage: &Stage, request: v1::GenerateRequest) -> Vec<v1::GenerateResponse> {
    let stream = stage.client().generate(request).await.unwrap().into_inner();
    stream.map(Result::unwrap).collect().await
}

pub(crate) fn text(responses: &[v1::GenerateResponse]) -> Vec<u8> {
    chunks(responses)
        .flat_map(|chunk| chunk.text.clone())
        .collect()
}

pub(crate) fn chunks(responses: &[v1::GenerateResponse]) -> impl Iterator<Item = &v1::TokenChunk> {
    responses
        .iter()
        .filter_map(|response| match &response.event {
            Some(Event::Tokens(chunk)) => Some(chunk),
            _ => None,
        })
}

pub(crate) fn end(responses: &[v1::GenerateResponse]) -> v1::Finished {
    match &responses.last().unwrap().event {
        Some(Event::Finished(finished)) => finished.clone(),
        other => panic!("the last event is {other:?}"),
    }
}

#[tokio::test]
async fn streams_tokens_with_their_text_and_ends_at_the_end_token() {
    let mut output = ids(" the world");
    output.push(special("<|return|>"));
    let mut stage = Stage::new(always(output.clone())).await;
    let responses = run(&stage, request("hello")).await;
    let Some(Event::Started(started)) = &responses[0].event else {
        panic!("{responses:?}")
    };
    assert_eq!(started.model, "gpt-oss-tiny");
    assert!(started.generation_id.starts_with("gen-"));
    assert!(started.system_fingerprint.starts_with("fp_"));
    assert_eq!(started.prompt_tokens as usize, ids("hello").len());
    let delivered: Vec<u32> = chunks(&responses)
        .flat_map(|chunk| chunk.token_ids.clone())
        .collect();
    assert_eq!(delivered, output);
    assert_eq!(text(&responses), b" the world");
    let end = end(&responses);
    assert_eq!(end.reason(), FinishReason::Stop);
    assert_eq!(end.matched_token_id, Some(special("<|return|>")));
    let usage = end.usage.unwrap();
    assert_eq!(usage.output_tokens as usize, output.len());
    assert_eq!(usage.cached_prompt_tokens, 1);
    let timings = end.timings.unwrap();
    assert!(timings.queued.is_some() && timings.prefill.is_some());
    assert!(timings.time_to_first_token.is_some());

    let followed = stage.followed().await;
    assert_eq!(followed.tokens, ids("hello"));
    assert_eq!(followed.request_id, started.generation_id);
    assert_eq!(followed.principal, "default");
    let stop = followed.stop.unwrap();
    assert_eq!(stop.max_tokens, MAX_OUTPUT);
    assert!(stop.stop_tokens.contains(&special("<|return|>")));
}

#[tokio::test]
async fn numbers_are_a_function_of_the_tokens() {
    let output = ids("one two three four five six");
    let limit = output.len() as u32;
    let one_by_one = Stage::new(always(output.clone())).await;
    let all_at_once = Stage::new(move |request| {
        let first = request.tokens.len();
        let end = finished(proto::internal::SequenceEnd::Length);
        Ok(vec![accept(), tokens(first, &output), end])
    })
    .await;
    let stop = Some(v1::StopParams {
        max_output_tokens: Some(limit),
        ..Default::default()
    });
    let request = v1::GenerateRequest {
        stop,
        ..request("count")
    };
    for stage in [one_by_one, all_at_once] {
        let responses = run(&stage, request.clone()).await;
        assert_eq!(responses[0].sequence, 1);
        let mut tokens = 1;
        for response in &responses[1..] {
            if let Some(Event::Tokens(chunk)) = &response.event {
                tokens += chunk.token_ids.len() as u64;
                assert_eq!(response.sequence, tokens);
            }
        }
        assert_eq!(responses.last().unwrap().sequence, u64::from(limit) + 2);
        assert_eq!(end(&responses).reason(), FinishReason::Length);
    }
}

#[tokio::test]
async fn a_seed_that_is_not_given_comes_from_the_request_id() {
    let mut stage = Stage::new(always(vec![special("<|return|>")])).await;
    let mut seeds = Vec::new();
    for id in ["a", "a", "b"] {
        run(
            &stage,
            v1::GenerateRequest {
                request_id: id.into(),
                ..request("x")
            },
        )
        .await;
        seeds.push(stage.followed().await.sampling.unwrap().seed);
    }
    assert_eq!(seeds[0], seeds[1]);
    assert_ne!(seeds[0], seeds[2]);
    let sampling = Some(v1::SamplingParams {
        seed: Some(0),
        ..Default::default()
    });
    run(
        &stage,
        v1::GenerateRequest {
            sampling,
            ..request("x")
        },
    )
    .await;
    assert_eq!(stage.followed().await.sampling.unwrap().seed, 0);
}

#[tokio::test]
async fn never_splits_a_character() {
    let output = byte_ids("na\u{ef}ve \u{1f496}!".as_bytes());
    let limit = Some(output.len() as u32);
    let stage = Stage::new(always(output)).await;
    let stop = Some(v1::StopParams {
        max_output_tokens: limit,
        ..Default::default()
    });
    let responses = run(
        &stage,
        v1::GenerateRequest {
            stop,
            ..request("x")
        },
    )
    .await;
    for chunk in chunks(&responses) {
        assert!(std::str::from_utf8(&chunk.text).is_ok(), "{chunk:?}");
    }
    assert_eq!(text(&responses), "na\u{ef}ve \u{1f496}!".as_bytes());
}

#[tokio::test]
async fn a_stop_sequence_ends_the_generation_at_the_lead() {
    let output = byte_ids(b"one\n\nHuman: two");
    let mut stage = Stage::new(always(output)).await;
    let stop_sequences = vec!["\n\nHuman:".into(), "\n\nHuge".into()];
    let stop = Some(v1::StopParams {
        stop_sequences,
        ..Default::default()
    });
    let responses = run(
        &stage,
        v1::GenerateRequest {
            stop,
            request_id: "s".into(),
            ..request("x")
        },
    )
    .await;
    assert_eq!(text(&responses), b"one");
    let end = end(&responses);
    assert_eq!(end.reason(), FinishReason::StopSequence);
    assert_eq!(end.matched_stop_sequence, "\n\nHuman:");
    assert_eq!(end.matched_token_id, None);
    assert_eq!(end.usage.unwrap().output_tokens, 11);
    assert_eq!(stage.hung_up().await, "s");
}

#[tokio::test]
async fn a_stop_token_of_the_request_is_told_from_the_models_own() {
    let stage = Stage::new(always(ids(" the world"))).await;
    let world = *ids(" the world").last().unwrap();
    let stop_token_ids = vec![world];
    let stop = v1::StopParams {
        stop_token_ids,
        ..Default::default()
    };
    let responses = run(
        &stage,
        v1::GenerateRequest {
            stop: Some(stop),
            ..request("x")
        },
    )
    .await;
    assert_eq!(end(&responses).reason(), FinishReason::StopSequence);
    assert_eq!(end(&responses).matched_token_id, Some(world));
    assert!(!text(&responses).ends_with(b"world"));
}

#[tokio::test]
async fn ignored_end_tokens_are_text() {
    let mut output = ids("a");
    output.extend([special("<|return|>"), ids("b")[0]]);
    let mut stage = Stage::new(always(output)).await;
    let stop = v1::StopParams {
        ignore_eos: true,
        max_output_tokens: Some(3),
        ..Default::default()
    };
    let responses = run(
        &stage,
        v1::GenerateRequest {
            stop: Some(stop),
            ..request("x")
        },
    )
    .await;
    assert_eq!(text(&responses), b"a<|return|>b");
    assert!(stage.followed().await.stop.unwrap().stop_tokens.is_empty());
}

#[tokio::test]
async fn reports_logprobs_of_output_and_prompt() {
    let mut stage = Stage::new(always(ids(" the"))).await;
    let prompt: Vec<u32> = (0..1000).map(|at| 300 + at % 7).collect();
    let logprobs = Some(v1::LogprobParams {
        output: true,
        top: 2,
        prompt: true,
    });
    let stop = Some(v1::StopParams {
        max_output_tokens: Some(1),
        ..Default::default()
    });
    let request = v1::GenerateRequest {
        prompt: Some(Prompt::TokenIds(v1::TokenIds {
            ids: prompt.clone(),
        })),
        logprobs,
        stop,
        ..Default::default()
    };
    let responses = run(&stage, request).await;
    let parts: Vec<&v1::PromptLogprobs> = responses
        .iter()
        .filter_map(|response| match &response.event {
            Some(Event::PromptLogprobs(part)) => Some(part),
            _ => None,
        })
        .collect();
    assert_eq!(
        parts.iter().map(|p| p.first_position).collect::<Vec<_>>(),
        [0, 512]
    );
    assert_eq!(
        parts.iter().map(|p| p.logprobs.len()).collect::<Vec<_>>(),
        [512, 488]
    );
    assert_eq!(responses[1].sequence, 2);
    let all: Vec<_> = parts.iter().flat_map(|part| &part.logprobs).collect();
    assert_eq!(all[0].logprob, None);
    assert_eq!(
        all.iter().map(|found| found.token_id).collect::<Vec<_>>(),
        prompt
    );
    assert_eq!(all[999].logprob, Some(-(prompt[999] as f32) / 1000.0));
    assert_eq!(all[999].top.len(), 2);
    let chunk = chunks(&responses).next().unwrap();
    assert_eq!(chunk.logprobs[0].token, b" the");
    assert_eq!(chunk.logprobs[0].top[0].token_id, ids(" the")[0] + 1);
    assert_eq!(
        stage.followed().await.sampling.unwrap().prompt_logprobs,
        Some(2)
    );
}

#[tokio::test]
async fn delivers_all_at_the_end_if_asked() {
    let output: Vec<u32> = ids("word ").into_iter().cycle().take(600).collect();
    let stage = Stage::new(always(output.clone())).await;
    let stream = v1::StreamParams {
        delivery: v1::Delivery::FinalOnly.into(),
        ..Default::default()
    };
    let stop = Some(v1::StopParams {
        max_output_tokens: Some(600),
        ..Default::default()
    });
    let responses = run(
        &stage,
        v1::GenerateRequest {
            stream: Some(stream),
            stop,
            ..request("x")
        },
    )
    .await;
    let lengths: Vec<usize> = chunks(&responses)
        .map(|chunk| chunk.token_ids.len())
        .collect();
    assert_eq!(lengths, [512, 88]);
    assert_eq!(responses.len(), 4);
}

#[tokio::test]
async fn an_idle_stream_has_heartbeats() {
    let config = coordinator::front::FrontConfig {
        heartbeat: std::time::Duration::from_millis(20),
        ..patient()
    };
    let stage = Stage::with_config(config, |_| Ok(vec![accept(), Cue::Hang])).await;
    let mut stream = stage
        .client()
        .generate(request("x"))
        .await
        .unwrap()
        .into_inner();
    let mut beats = 0;
    while beats < 2 {
        let response = stream.next().await.unwrap().unwrap();
        if response.sequence == 0 {
            // On a busy machine the lead has not accepted it by then.
            continue;
        }
        assert_eq!(response.sequence, 1);
        if let Some(Event::Heartbeat(beat)) = response.event {
            assert_eq!(beat.state(), v1::GenerationState::Queued);
            assert_eq!(beat.queue_position, 3);
            beats += 1;
        }
    }
}

#[tokio::test]
async fn every_parameter_reaches_the_lead() {
    let mut stage = Stage::new(|request| Ok(play(request, &[special("<|return|>")]))).await;
    let sampling = v1::SamplingParams {
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(7),
        min_p: Some(0.125),
        presence_penalty: Some(-1.0),
        frequency_penalty: Some(1.5),
        repetition_penalty: Some(1.25),
        seed: Some(u64::MAX),
        logit_bias: [(9, -100.0), (3, 5.0)].into(),
    };
    let scheduling = v1::SchedulingParams {
        cache_salt: "salt".into(),
        ..Default::default()
    };
    let request = v1::GenerateRequest {
        model: "openai/gpt-oss-tiny".into(),
        sampling: Some(sampling),
        logprobs: Some(v1::LogprobParams {
            output: true,
            ..Default::default()
        }),
        scheduling: Some(scheduling),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        ..request("x")
    };
    run(&stage, request).await;
    let followed = stage.followed().await;
    assert_eq!(followed.cache_salt, "salt");
    let bias = |token, bias| proto::internal::LogitBias { token, bias };
    let expected = proto::internal::Sampling {
        temperature: 0.5,
        top_p: 0.25,
        top_k: 7,
        min_p: 0.125,
        presence_penalty: -1.0,
        frequency_penalty: 1.5,
        repetition_penalty: 1.25,
        logit_bias: vec![bias(3, 5.0), bias(9, -100.0)],
        seed: u64::MAX,
        choice: 0,
        logprobs: Some(0),
        prompt_logprobs: None,
    };
    assert_eq!(followed.sampling.unwrap(), expected);
}
