//! TokenizerService: text to tokens and back, and the prompt that Chat would use.

use std::sync::Arc;

use prost::Message;
use proto::v1;
use proto::v1::tokenizer_service_server::TokenizerService;
use telemetry::labels::TextWork;
use tonic::{Request, Response, Status};

use super::error::Error;
use super::{Shared, chat, convert, limits};

/// Refuses an answer that a client could not receive; its length is the fault of this field.
fn fitting<T: Message>(answer: T, field: &'static str) -> Result<Response<T>, Status> {
    let (bytes, most) = (answer.encoded_len(), limits::MAX_ANSWER);
    if bytes > most {
        return Err(Error::AnswerTooLong { field, bytes, most }.into());
    }
    Ok(Response::new(answer))
}

/// TokenizerService over the shared state of a front.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl TokenizerService for Text {
    async fn tokenize(
        &self,
        request: Request<v1::TokenizeRequest>,
    ) -> Result<Response<v1::TokenizeResponse>, Status> {
        let v1::TokenizeRequest {
            model,
            text,
            parse_special_tokens,
        } = request.into_inner();
        self.0.model.check_name(&model, "model")?;
        let (tokenizer, bytes) = (Arc::clone(&self.0.tokenizer), text.len());
        let (least, max_context) = (
            bytes.div_ceil(self.0.longest_token),
            self.0.model.max_context,
        );
        if least > max_context as usize {
            let why = format!("at least {least} tokens are more than the context of {max_context}");
            return Err(Error::field("text", why).into());
        }
        let encode = move || match parse_special_tokens {
            true => tokenizer.encode_with_special(&text),
            false => tokenizer.encode(&text),
        };
        let ids = self.0.timed(TextWork::Encode, bytes, encode).await?;
        let answer = v1::TokenizeResponse {
            token_ids: ids.into_iter().map(|token| token.0).collect(),
            max_context_tokens: self.0.model.max_context,
        };
        fitting(answer, "text")
    }

    async fn detokenize(
        &self,
        request: Request<v1::DetokenizeRequest>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        let v1::DetokenizeRequest { model, token_ids } = request.into_inner();
        self.0.model.check_name(&model, "model")?;
        let max_context = self.0.model.max_context;
        if token_ids.len() > max_context as usize {
            let why = format!(
                "{} are more than the context of {max_context} tokens",
                token_ids.len()
            );
            return Err(Error::field("token_ids", why).into());
        }
        let tokens = convert::token_ids(&token_ids, "token_ids", &self.0.model)?;
        let text = self.0.decode(tokens.into()).await?;
        fitting(v1::DetokenizeResponse { text }, "token_ids")
    }

    async fn render_chat(
        &self,
        request: Request<v1::RenderChatRequest>,
    ) -> Result<Response<v1::RenderChatResponse>, Status> {
        let missing = || Error::field("request", "must be given");
        let request = request.into_inner().request.ok_or_else(missing)?;
        let checked = chat::check(&self.0, request).await;
        let checked = checked.map_err(|error| error.rename(|name| format!("request.{name}")))?;
        let prompt = checked.request.prompt;
        let text = self.0.decode(Arc::clone(&prompt)).await?;
        let text_left_out = text.len() > limits::MAX_WHOLE_TEXT;
        let text = match text_left_out {
            true => String::new(),
            false => String::from_utf8_lossy(&text).into_owned(),
        };
        let answer = v1::RenderChatResponse {
            token_ids: prompt.iter().map(|token| token.0).collect(),
            text,
            text_left_out,
        };
        fitting(answer, "request.messages")
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::{fitting, limits};

    #[test]
    fn an_answer_no_client_could_receive_is_refused() {
        let answer = |length| v1::DetokenizeResponse {
            text: vec![b'a'; length],
        };
        assert!(fitting(answer(limits::MAX_ANSWER / 2), "token_ids").is_ok());
        let status = fitting(answer(limits::MAX_ANSWER), "token_ids").unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let details = status.get_details_error_info().unwrap();
        assert_eq!(details.reason, "ANSWER_TOO_LONG");
    }
}
