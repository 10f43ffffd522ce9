//! What the tokenizer refuses.

use proto::v1;
use proto::v1::tokenizer_service_client::TokenizerServiceClient;
use tonic::Code;

use super::{check, stage};
use crate::stage::{CONTEXT, VOCAB};

#[tokio::test]
async fn the_tokenizer_refuses_ids_and_models_it_does_not_have() {
    let stage = stage().await;
    let mut client = TokenizerServiceClient::new(stage.grpc.clone());
    let outside = v1::DetokenizeRequest {
        model: String::new(),
        token_ids: vec![VOCAB],
    };
    let status = client.detokenize(outside).await.unwrap_err();
    check("an id", &status, Code::InvalidArgument, "token_ids[0]");
    let many = v1::DetokenizeRequest {
        model: String::new(),
        token_ids: vec![1; CONTEXT as usize + 1],
    };
    let status = client.detokenize(many).await.unwrap_err();
    check("many ids", &status, Code::InvalidArgument, "token_ids");
    let long = v1::TokenizeRequest {
        text: "a".repeat(1 << 20),
        ..Default::default()
    };
    let status = client.tokenize(long).await.map(drop).unwrap_err();
    check("a long text", &status, Code::InvalidArgument, "text");
    let other = v1::TokenizeRequest {
        model: "gpt-7".into(),
        ..Default::default()
    };
    assert_eq!(
        client.tokenize(other).await.unwrap_err().code(),
        Code::NotFound
    );
    let status = client
        .render_chat(v1::RenderChatRequest::default())
        .await
        .unwrap_err();
    check(
        "nothing to render",
        &status,
        Code::InvalidArgument,
        "request",
    );
}
