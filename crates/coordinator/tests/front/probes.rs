//! Health, readiness, reflection, models, and the tokenizer.

use proto::internal::WatchResponse;
use proto::v1;
use proto::v1::model_service_client::ModelServiceClient;
use proto::v1::tokenizer_service_client::TokenizerServiceClient;
use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::http;
use crate::stage::{CONTEXT, Stage, VOCAB, always, ids, serving, soon};

/// Waits until the health service says so for a service.
async fn until(stage: &Stage, service: &str, expected: ServingStatus) {
    let mut client = HealthClient::new(stage.grpc.clone());
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let mut states = client.watch(request).await.unwrap().into_inner();
    soon(async { while states.next().await.unwrap().unwrap().status() != expected {} }).await;
}

#[tokio::test]
async fn health_follows_the_lead_for_every_service() {
    let stage = Stage::new(always(Vec::new())).await;
    let services = [
        "",
        "conclave.v1.GenerationService",
        "conclave.v1.TokenizerService",
        "conclave.v1.ModelService",
    ];
    for service in services {
        until(&stage, service, ServingStatus::Serving).await;
    }
    let down = WatchResponse {
        ranks_present: 1,
        ranks_needed: 2,
        missing: vec!["worker-1".into()],
        status: "waiting for workers".into(),
        ..Default::default()
    };
    stage.state.send(down).unwrap();
    for service in services {
        until(&stage, service, ServingStatus::NotServing).await;
    }
    let answer = http::get(stage.http, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "group '0': waiting for workers; 1 of 2 ranks are present; missing: worker-1\n"
    );
    assert_eq!(http::get(stage.http, "/livez").await.status, 200);
    stage.state.send(serving()).unwrap();
    until(&stage, services[3], ServingStatus::Serving).await;
    let answer = http::get(stage.http, "/readyz").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "group '0': serving; 2 of 2 ranks are present\n")
    );
}

#[tokio::test]
async fn a_front_that_drains_is_not_ready() {
    let stage = Stage::new(always(Vec::new())).await;
    until(&stage, "", ServingStatus::Serving).await;
    soon(stage.front.drain(std::time::Duration::from_secs(5))).await;
    until(&stage, "", ServingStatus::NotServing).await;
    assert_eq!(
        http::get(stage.http, "/readyz").await.body,
        "shutting down\n"
    );
}

#[tokio::test]
async fn reflection_shows_the_public_api_only_in_both_versions() {
    let stage = Stage::new(always(Vec::new())).await;
    let mut names: Vec<String> = {
        use tonic_reflection::pb::v1::ServerReflectionRequest;
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(list),
        };
        let mut client = ServerReflectionClient::new(stage.grpc.clone());
        let mut answers = client
            .server_reflection_info(tokio_stream::once(request))
            .await
            .unwrap()
            .into_inner();
        let answer = answers
            .next()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else {
            panic!("{answer:?}")
        };
        list.service
            .into_iter()
            .map(|service| service.name)
            .collect()
    };
    names.sort();
    let expected = [
        "conclave.v1.GenerationService",
        "conclave.v1.ModelService",
        "conclave.v1.TokenizerService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, expected);

    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    let symbol = MessageRequest::FileContainingSymbol("conclave.v1.ChatRequest".into());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(symbol),
    };
    let mut client = ServerReflectionClient::new(stage.grpc.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .next()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(answer, MessageResponse::FileDescriptorResponse(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn shows_the_model_by_every_name() {
    let stage = Stage::new(always(Vec::new())).await;
    let mut client = ModelServiceClient::new(stage.grpc.clone());
    let list = client
        .list_models(v1::ListModelsRequest {})
        .await
        .unwrap()
        .into_inner();
    let model = &list.models[0];
    assert_eq!(model.name, "gpt-oss-tiny");
    assert_eq!(model.max_context_tokens, CONTEXT);
    assert_eq!(model.vocab_size, VOCAB);
    assert_eq!(
        model.default_sampling.as_ref().unwrap().temperature,
        Some(1.0)
    );
    for name in ["", "gpt-oss-tiny", "openai/gpt-oss-tiny"] {
        let request = v1::GetModelRequest { name: name.into() };
        assert_eq!(
            client
                .get_model(request)
                .await
                .unwrap()
                .into_inner()
                .model
                .as_ref(),
            Some(model)
        );
    }
    let request = v1::GetModelRequest {
        name: "gpt-7".into(),
    };
    assert_eq!(
        client.get_model(request).await.unwrap_err().code(),
        tonic::Code::NotFound
    );

    let list = http::get(stage.http, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "gpt-oss-tiny");
    assert_eq!(list["data"][1]["id"], "openai/gpt-oss-tiny");
    assert_eq!(list["data"][0]["object"], "model");
    assert_eq!(list["data"][0]["max_model_len"], CONTEXT);
    let model = http::get(stage.http, "/v1/models/openai/gpt-oss-tiny")
        .await
        .json();
    assert_eq!(model["id"], "openai/gpt-oss-tiny");
    let unknown = http::get(stage.http, "/v1/models/gpt-7").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error().2, "model_not_found");
    let no_text = http::get(stage.http, "/v1/models/%ff").await;
    assert_eq!(
        (no_text.status, no_text.error().2),
        (400, "path_unreadable".into())
    );
}

#[tokio::test]
async fn tokenizes_and_detokenizes() {
    let stage = Stage::new(always(Vec::new())).await;
    let mut client = TokenizerServiceClient::new(stage.grpc.clone());
    for (parse_special_tokens, is_one) in [(true, true), (false, false)] {
        let text = String::from("<|start|>");
        let request = v1::TokenizeRequest {
            text,
            parse_special_tokens,
            ..Default::default()
        };
        let answer = client.tokenize(request).await.unwrap().into_inner();
        assert_eq!(answer.token_ids.len() == 1, is_one);
        assert_eq!(answer.max_context_tokens, CONTEXT);
        let request = v1::DetokenizeRequest {
            model: String::new(),
            token_ids: answer.token_ids,
        };
        assert_eq!(
            client.detokenize(request).await.unwrap().into_inner().text,
            b"<|start|>"
        );
    }
    // Long enough for a thread of its own.
    let text = "a long text ".repeat(1000);
    let request = v1::TokenizeRequest {
        text: text.clone(),
        ..Default::default()
    };
    let answer = client.tokenize(request).await.unwrap().into_inner();
    assert_eq!(answer.token_ids, ids(&text));
}
