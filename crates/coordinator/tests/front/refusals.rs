//! Every bad input is refused with its code, and its field by name.

mod chat;
mod delivery;
mod generate;
mod tokenizer;

use proto::v1;
use proto::v1::model_service_client::ModelServiceClient;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::generate::request;
use crate::stage::{Stage, always};

/// What is wrong, the request, and the field that the refusal names.
type Case<T> = (&'static str, T, &'static str);

/// A stage whose lead is never asked.
async fn stage() -> Stage {
    Stage::new(|_| panic!("a bad request reached the lead")).await
}

fn check(name: &str, status: &Status, code: Code, field: &str) {
    assert_eq!(status.code(), code, "{name}: {status}");
    let violations = status
        .get_details_bad_request()
        .expect(name)
        .field_violations;
    assert_eq!(violations[0].field, field, "{name}");
    assert!(
        status.message().starts_with(field),
        "{name}: {}",
        status.message()
    );
    let reason = status.get_details_error_info().unwrap().reason;
    let expected = if code == Code::Unimplemented {
        "FIELD_UNSUPPORTED"
    } else {
        "FIELD_INVALID"
    };
    assert_eq!(reason, expected, "{name}");
}

fn stop(params: v1::StopParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        stop: Some(params),
        ..request("x")
    }
}

fn stream(params: v1::StreamParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        stream: Some(params),
        ..request("x")
    }
}

fn scheduling(params: v1::SchedulingParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        scheduling: Some(params),
        ..request("x")
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let stage = stage().await;
    let model = String::from("gpt-7");
    let generate = v1::GenerateRequest {
        model: model.clone(),
        ..request("x")
    };
    let status = stage.client().generate(generate).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "MODEL_UNKNOWN"
    );
    let chat = v1::ChatRequest {
        model,
        ..crate::chat::request("x")
    };
    assert_eq!(
        stage.client().chat(chat).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn long_names_are_not_repeated() {
    let stage = stage().await;
    let long = "x".repeat(100_000);
    let generate = v1::GenerateRequest {
        model: long.clone(),
        ..request("x")
    };
    let status = stage.client().generate(generate).await.unwrap_err();
    check("a model", &status, Code::InvalidArgument, "model");
    let get = v1::GetModelRequest { name: long.clone() };
    let mut models = ModelServiceClient::new(stage.grpc.clone());
    let status = models.get_model(get).await.unwrap_err();
    check("a name", &status, Code::InvalidArgument, "name");
    let get = v1::GetGenerationRequest {
        generation_id: long.clone(),
    };
    let status = stage.client().get_generation(get).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "generation_id");
    let cancel = v1::CancelGenerationRequest {
        generation_id: long,
        reason: String::new(),
    };
    let status = stage.client().cancel_generation(cancel).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "generation_id");
}

#[tokio::test]
async fn a_request_above_the_limit_is_refused() {
    let stage = Stage::new(always(Vec::new())).await;
    let status = stage
        .client()
        .generate(request(&"a".repeat(17 << 20)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "request");
}
