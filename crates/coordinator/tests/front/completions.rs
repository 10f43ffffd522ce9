//! `POST /v1/completions` in OpenAI's shape.

use std::time::Duration;

use coordinator::front::FrontConfig;
use proto::internal::follow_response::Event;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::{self, complete};
use crate::stage::{
    CONTEXT, Cue, Stage, VOCAB, always, byte_ids, ids, patient, play, soon, special,
};

#[tokio::test]
async fn completes_a_text() {
    let mut output = ids(" the world");
    output.push(special("<|return|>"));
    let mut stage = Stage::new(always(output.clone())).await;
    let answer = complete(
        stage.http,
        json!({"model": "gpt-oss-tiny", "prompt": "hello"}),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert!(json["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(json["object"], "text_completion");
    assert_eq!(json["model"], "gpt-oss-tiny");
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = json!({
        "text": " the world", "index": 0, "logprobs": null, "finish_reason": "stop"
    });
    assert_eq!(json["choices"], json!([choice]));
    let (prompt, completion) = (ids("hello").len(), output.len());
    assert_eq!(json["usage"]["prompt_tokens"], prompt);
    assert_eq!(json["usage"]["completion_tokens"], completion);
    assert_eq!(json["usage"]["total_tokens"], prompt + completion);
    assert_eq!(json["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    let followed = stage.followed().await;
    assert_eq!(followed.stop.unwrap().max_tokens, 16);
}

#[tokio::test]
async fn streams_server_sent_events() {
    let output = byte_ids("na\u{ef}ve".as_bytes());
    let limit = output.len();
    let stage = Stage::new(always(output)).await;
    let body = json!({
        "prompt": "x", "stream": true, "max_tokens": limit,
        "stream_options": {"include_usage": true},
    });
    let answer = complete(stage.http, body).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let mut events = answer.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let mut events: Vec<Value> = events
        .into_iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let usage = events.pop().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], limit);
    assert!(
        events
            .iter()
            .all(|event| event.get("usage") == Some(&Value::Null))
    );
    let texts: Vec<&str> = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["n", "a", "\u{ef}", "v", "e", ""]);
    let reasons: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["finish_reason"])
        .collect();
    assert!(reasons[..5].iter().all(|reason| reason.is_null()));
    assert_eq!(reasons[5], "length");
    assert!(events.iter().all(|event| event["id"] == usage["id"]));
}

/// The request of lm-evaluation-harness for the log-likelihood of a continuation.
#[tokio::test]
async fn echoes_a_prompt_with_its_logprobs_for_evaluation() {
    let prompts = [ids("The sky is blue"), ids("No \u{1f496}")];
    let stage = Stage::new(always(vec![special("<|return|>")])).await;
    for stream in [false, true] {
        let body = json!({
            "prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0,
            "seed": 1234, "stream": stream,
        });
        let answer = complete(stage.http, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        for (index, prompt) in prompts.iter().enumerate() {
            let choice = match stream {
                false => answer.json()["choices"][index].take(),
                true => joined(&answer.events(), index),
            };
            assert_eq!(choice["index"], index);
            check_echo(&choice, prompt);
        }
    }
}

/// Joins the pieces of one choice.
fn joined(events: &[&str], index: usize) -> Value {
    let lists = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    let mut whole = json!({"index": index, "text": "", "finish_reason": null, "logprobs": {
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [] }});
    for event in &events[..events.len() - 1] {
        let mut event: Value = serde_json::from_str(event).unwrap();
        let piece = event["choices"][0].take();
        if piece["index"] != index {
            continue;
        }
        let text = format!(
            "{}{}",
            whole["text"].as_str().unwrap(),
            piece["text"].as_str().unwrap()
        );
        whole["text"] = text.into();
        if !piece["finish_reason"].is_null() {
            whole["finish_reason"] = piece["finish_reason"].clone();
        }
        for list in lists
            .into_iter()
            .filter(|list| piece["logprobs"][list].is_array())
        {
            let more = piece["logprobs"][list].as_array().unwrap().clone();
            whole["logprobs"][list].as_array_mut().unwrap().extend(more);
        }
    }
    whole
}

fn check_echo(choice: &Value, prompt: &[u32]) {
    let text = String::from_utf8(
        crate::stage::tokenizer().decode(
            &prompt
                .iter()
                .map(|id| spec::TokenId(*id))
                .collect::<Vec<_>>(),
        ),
    );
    assert_eq!(choice["text"], text.unwrap());
    assert_eq!(choice["finish_reason"], "stop");
    let logprobs = &choice["logprobs"];
    let positions = prompt.len() + 1;
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(
            logprobs[list].as_array().unwrap().len(),
            positions,
            "{list}"
        );
    }
    assert!(logprobs["token_logprobs"][0].is_null());
    assert!(logprobs["top_logprobs"][0].is_null());
    for (at, token) in prompt.iter().enumerate().skip(1) {
        let logprob = logprobs["token_logprobs"][at].as_f64().unwrap();
        assert!((logprob + f64::from(*token) / 1000.0).abs() < 1e-6);
        // The best alternative, and the token itself: as many as are told apart.
        let top = logprobs["top_logprobs"][at].as_object().unwrap();
        assert_eq!(top.len(), 2, "{top:?}");
        let name = logprobs["tokens"][at].as_str().unwrap();
        assert_eq!(top[name].as_f64(), Some(logprob));
    }
    assert_eq!(logprobs["tokens"][positions - 1], "<|return|>");
    assert_eq!(
        logprobs["text_offset"][positions - 1],
        choice["text"].as_str().unwrap().chars().count()
    );
}

#[tokio::test]
async fn offsets_count_characters_and_partial_tokens_are_spelled_in_bytes() {
    let output = byte_ids("\u{1f496}a".as_bytes());
    let stage = Stage::new(always(output)).await;
    let body = json!({"prompt": "x", "max_tokens": 5, "logprobs": 0});
    let choice = complete(stage.http, body).await.json()["choices"][0].take();
    assert_eq!(choice["text"], "\u{1f496}a");
    let tokens = [
        "bytes:\\xf0",
        "bytes:\\x9f",
        "bytes:\\x92",
        "bytes:\\x96",
        "a",
    ];
    assert_eq!(choice["logprobs"]["tokens"], json!(tokens));
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 0, 0, 0, 1]));
    assert_eq!(
        choice["logprobs"]["top_logprobs"][4]
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn an_impossible_token_has_a_finite_logprob() {
    let stage = Stage::new(|request| {
        let mut cues = play(request, &ids("a"));
        for cue in &mut cues {
            if let Cue::Say(Event::Tokens(tokens)) = cue {
                tokens.tokens[0].logprob.as_mut().unwrap().logprob = f32::NEG_INFINITY;
            }
        }
        Ok(cues)
    })
    .await;
    let body = json!({"prompt": "x", "max_tokens": 1, "logprobs": 1});
    let choice = complete(stage.http, body).await.json()["choices"][0].take();
    assert_eq!(choice["logprobs"]["token_logprobs"], json!([-9999.0]));
}

#[tokio::test]
async fn echo_works_without_logprobs_and_without_output() {
    let stage = Stage::new(always(ids(" the"))).await;
    for (max_tokens, text) in [(1, "hi the"), (0, "hi")] {
        for stream in [true, false] {
            let body =
                json!({"prompt": "hi", "echo": true, "max_tokens": max_tokens, "stream": stream});
            let answer = complete(stage.http, body).await;
            let choice = match stream {
                true => joined(&answer.events(), 0),
                false => answer.json()["choices"][0].take(),
            };
            assert_eq!(choice["text"], text);
            assert_eq!(choice["finish_reason"], "length");
        }
    }
    let body = json!({"prompt": "hi there", "echo": true, "max_tokens": 0, "logprobs": 1});
    let json = complete(stage.http, body).await.json();
    let tokens = json["choices"][0]["logprobs"]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), ids("hi there").len());
    assert_eq!(json["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn several_prompts_and_choices_are_told_apart() {
    let mut stage = Stage::new(|request| {
        // Says its own prompt and choice.
        let choice = request.sampling.as_ref().unwrap().choice;
        let mut output = request.tokens.clone();
        output.extend(byte_ids(choice.to_string().as_bytes()));
        output.push(special("<|return|>"));
        Ok(play(request, &output))
    })
    .await;
    let body = json!({"prompt": ["a", "b"], "n": 2, "seed": -5});
    let json = complete(stage.http, body).await.json();
    let texts: Vec<&str> = json["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a0", "a1", "b0", "b1"]);
    assert_eq!(json["usage"]["prompt_tokens"], 2);
    // One of each prompt, which its choices share.
    assert_eq!(json["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    assert_eq!(json["usage"]["completion_tokens"], 12);
    let mut ids = Vec::new();
    for _ in 0..4 {
        let followed = stage.followed().await;
        assert_eq!(followed.sampling.unwrap().seed, (-5_i64).cast_unsigned());
        ids.push(followed.request_id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_stop_sequence_is_a_text_or_a_list() {
    let mut stage = Stage::new(always(byte_ids(b"one. two"))).await;
    for stop in [json!("."), json!(["x", "."])] {
        let body = json!({"prompt": "x", "stop": stop});
        let choice = complete(stage.http, body).await.json()["choices"][0].take();
        assert_eq!(choice["text"], "one");
        assert_eq!(choice["finish_reason"], "stop");
        stage.hung_up().await;
    }
}

#[tokio::test]
async fn every_parameter_reaches_the_lead() {
    let mut stage = Stage::new(always(vec![5])).await;
    let body = json!({
        "prompt": [1, 2, 3], "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125,
        "presence_penalty": -1, "frequency_penalty": 1.5, "repetition_penalty": 1.25,
        "seed": 18446744073709551615_u64, "logit_bias": {"9": -100, "3": 5}, "logprobs": 3,
        "max_tokens": 9, "stop_token_ids": [5], "ignore_eos": true, "cache_salt": "salt",
        "user": "me", "best_of": 1, "suffix": null, "a_field_of_tomorrow": {"x": [1]},
    });
    assert_eq!(complete(stage.http, body).await.status, 200);
    let followed = stage.followed().await;
    assert_eq!(followed.tokens, [1, 2, 3]);
    assert_eq!(followed.cache_salt, "salt");
    let stop = followed.stop.unwrap();
    assert_eq!((stop.max_tokens, stop.stop_tokens), (9, vec![5]));
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
        logprobs: Some(3),
        prompt_logprobs: None,
    };
    assert_eq!(followed.sampling.unwrap(), expected);
}

/// Bodies whose prompt is at fault, and where.
fn bad_prompts() -> Vec<(Value, &'static str)> {
    let long: Vec<u32> = vec![1; CONTEXT as usize];
    let longer: Vec<u32> = vec![1; 2 * CONTEXT as usize];
    vec![
        (json!({}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", ""]}), "prompt[1]"),
        (json!({"prompt": ["a", 3]}), "prompt[1]"),
        (json!({"prompt": [1, -1]}), "prompt[1]"),
        (json!({"prompt": [[1], [2, -1]]}), "prompt[1][1]"),
        (json!({"prompt": longer}), "prompt"),
        (json!({"prompt": [[1], longer]}), "prompt[1]"),
        (json!({"prompt": vec![json!([]); 129]}), "prompt"),
        (json!({"prompt": [1, VOCAB]}), "prompt[1]"),
        (json!({"prompt": [[1], [2, VOCAB]]}), "prompt[1][1]"),
        (json!({"prompt": long}), "prompt"),
        (json!({"prompt": vec!["a"; 129]}), "prompt"),
    ]
}

/// Bodies with another field that is at fault.
fn bad_fields() -> Vec<(Value, &'static str)> {
    let biases = (0..1025).map(|token| (token.to_string(), json!(1)));
    let many_biases: Value = biases.collect();
    vec![
        (json!({"prompt": "x", "n": 129}), "n"),
        (json!({"prompt": "x", "n": 0}), "n"),
        (json!({"prompt": "x", "n": 2, "best_of": 3}), "best_of"),
        (json!({"prompt": "x", "max_tokens": -1}), "max_tokens"),
        (json!({"prompt": "x", "max_tokens": 0}), "max_tokens"),
        (
            json!({"prompt": "x", "max_tokens": 0, "logprobs": 1, "echo": false}),
            "max_tokens",
        ),
        (json!({"prompt": "x", "max_tokens": CONTEXT}), "max_tokens"),
        (json!({"prompt": "x", "temperature": "hot"}), "temperature"),
        (json!({"prompt": "x", "temperature": -1}), "temperature"),
        (json!({"prompt": "x", "temperature": 1e300}), "temperature"),
        (json!({"prompt": "x", "top_p": 2}), "top_p"),
        (json!({"prompt": "x", "top_k": 1.5}), "top_k"),
        (json!({"prompt": "x", "logprobs": 21}), "logprobs"),
        (json!({"prompt": "x", "logprobs": true}), "logprobs"),
        (json!({"prompt": "x", "logit_bias": {"a": 1}}), "logit_bias"),
        (
            json!({"prompt": "x", "logit_bias": many_biases}),
            "logit_bias",
        ),
        (
            json!({"prompt": "x", "logit_bias": {"1": 101}}),
            "logit_bias",
        ),
        (json!({"prompt": "x", "stop": [""]}), "stop[0]"),
        (json!({"prompt": "x", "stop": 3}), "stop"),
        (json!({"prompt": "x", "stop": vec!["a"; 17]}), "stop"),
        (
            json!({"prompt": "x", "stop_token_ids": vec![1; 129]}),
            "stop_token_ids",
        ),
        (
            json!({"prompt": "x", "stop_token_ids": [VOCAB]}),
            "stop_token_ids[0]",
        ),
        (json!({"prompt": "x", "stream": "yes"}), "stream"),
        (
            json!({"prompt": "x", "stream_options": {}}),
            "stream_options",
        ),
        (json!({"prompt": "x", "suffix": "end"}), "suffix"),
        (
            json!({"prompt": "x", "response_format": {"type": "json_object"}}),
            "response_format",
        ),
        (
            json!({"prompt": "x", "prompt_logprobs": 0}),
            "prompt_logprobs",
        ),
        (json!({"prompt": "x", "guided_json": {}}), "guided_json"),
        (json!({"prompt": "x", "priority": 101}), "priority"),
        (json!({"prompt": "x", "model": 3}), "model"),
    ]
}

#[tokio::test]
async fn bad_bodies_are_refused_by_field() {
    let stage = Stage::new(|_| panic!("a bad request reached the lead")).await;
    for (body, field) in bad_prompts().into_iter().chain(bad_fields()) {
        let answer = complete(stage.http, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        let (message, param, code) = answer.error();
        assert_eq!(param, field, "{body}: {message}");
        assert!(message.starts_with(field), "{message}");
        assert!(
            code == "field_invalid" || code == "field_unsupported",
            "{code}"
        );
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn fields_that_ask_for_nothing_are_taken() {
    let stage = Stage::new(always(vec![special("<|return|>")])).await;
    for field in [
        r#""response_format": {"type": "text"}"#,
        r#""response_format": null"#,
        r#""suffix": """#,
        r#""tools": [ ]"#,
        r#""use_beam_search": false, "min_tokens": 0, "prompt_logprobs": false"#,
    ] {
        let body = format!(r#"{{"prompt": "x", {field}}}"#);
        let answer = http::call(stage.http, "POST", "/v1/completions", "", &body).await;
        assert_eq!(answer.status, 200, "{field}: {}", answer.body);
    }
}

#[tokio::test]
async fn other_bad_requests_are_answered_in_json() {
    let stage = Stage::new(|_| panic!("a bad request reached the lead")).await;
    let unknown = complete(stage.http, json!({"prompt": "x", "model": "gpt-7"})).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error().2, "model_not_found");
    for body in [
        "",
        "{",
        "[1]",
        "{\"prompt\": \"x\", \"temperature\": NaN}",
        "\u{0}",
    ] {
        let answer = http::call(stage.http, "POST", "/v1/completions", "", body).await;
        assert_eq!(
            (answer.status, answer.error().2),
            (400, "body_not_json".into()),
            "{body}"
        );
    }
    let answer = http::get(stage.http, "/v1/nothing").await;
    assert_eq!(
        (answer.status, answer.error().2),
        (404, "path_unknown".into())
    );
    let answer = http::get(stage.http, "/v1/completions").await;
    assert_eq!(
        (answer.status, answer.error().2),
        (405, "method_not_allowed".into())
    );
    assert_eq!(answer.header("allow"), Some("POST"));
    let body = " ".repeat((16 << 20) + 1);
    let answer = http::call(stage.http, "POST", "/v1/completions", "", &body).await;
    assert_eq!(
        (answer.status, answer.error().2),
        (413, "body_unreadable".into())
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let config = FrontConfig {
        body_time: Duration::from_millis(50),
        ..patient()
    };
    let stage = Stage::with_config(config, always(Vec::new())).await;
    // One byte more is promised than comes.
    let promise = "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\n{}";
    let mut connection = TcpStream::connect(stage.http).await.unwrap();
    connection.write_all(promise.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(connection.read_to_end(&mut answer)).await.unwrap();
    let answer = http::parse(&answer);
    assert_eq!(
        (answer.status, answer.error().2),
        (408, "body_unreadable".into())
    );
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let stage = Stage::new(always(Vec::new())).await;
    let answer = http::call(stage.http, "GET", "/livez", "x-request-id: abc-1\r\n", "").await;
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let answer = http::get(stage.http, "/nowhere").await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    let answer = http::call(stage.http, "GET", "/livez", "x-request-id: \r\n", "").await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
}
