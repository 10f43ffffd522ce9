//! What a gRPC client is told of a message that cannot be decoded.
//!
//! tonic calls that an error of the server, and says no more. It is asked about only after tonic has
//! said so: a message is decoded once.

use axum::http::HeaderMap;
use prost::{DecodeError, Message};
use proto::v1;
use tonic::{Code, Status};

use super::calls::{PREFIX, PUBLIC};
use super::error::Error;

/// What is at fault where no field is.
const WHOLE: &str = "request";

/// Returns what is wrong with a call's body, where tonic's answer is that something is.
pub(super) fn explain(path: &str, body: &[u8], answer: &HeaderMap) -> Option<Error> {
    let status = Status::from_header_map(answer)?;
    // Every status of ours has details.
    let is_tonics = matches!(status.code(), Code::Internal | Code::OutOfRange);
    if !is_tonics || !status.details().is_empty() {
        return None;
    }
    let (field, why) = fault(path, body)?;
    Some(Error::Unreadable { field, why })
}

fn fault(path: &str, body: &[u8]) -> Option<(String, String)> {
    let whole = |why: String| Some((WHOLE.to_owned(), why));
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<PREFIX>() else {
        return whole("holds no message".into());
    };
    if compressed != 0 {
        return whole("is marked as compressed, which no message may be here".into());
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if message.len() < length {
        return whole(format!("ends after {} of {length} bytes", message.len()));
    }
    decode(path, message).map(|error| locate(&error))
}

/// Decodes a call's message, and returns why it cannot be.
fn decode(path: &str, message: &[u8]) -> Option<DecodeError> {
    fn by<M: Message + Default>(message: &[u8]) -> Option<DecodeError> {
        M::decode(message).err()
    }
    match path.strip_prefix(PUBLIC)? {
        "GenerationService/Chat" => by::<v1::ChatRequest>(message),
        "GenerationService/Generate" => by::<v1::GenerateRequest>(message),
        "GenerationService/CancelGeneration" => by::<v1::CancelGenerationRequest>(message),
        "GenerationService/GetGeneration" => by::<v1::GetGenerationRequest>(message),
        "TokenizerService/Tokenize" => by::<v1::TokenizeRequest>(message),
        "TokenizerService/Detokenize" => by::<v1::DetokenizeRequest>(message),
        "TokenizerService/RenderChat" => by::<v1::RenderChatRequest>(message),
        "ModelService/ListModels" => by::<v1::ListModelsRequest>(message),
        "ModelService/GetModel" => by::<v1::GetModelRequest>(message),
        _ => None,
    }
}

/// Splits an error into the field that is at fault and what is wrong with it. The error names the
/// fields that lead there with their messages, `SamplingParams.top_p: GenerateRequest.sampling: …`.
fn locate(error: &DecodeError) -> (String, String) {
    let said = error.to_string();
    let mut rest = said
        .split_once("message: ")
        .map_or(&*said, |(_, rest)| rest);
    let mut fields = Vec::new();
    while let Some((place, after)) = rest.split_once(": ")
        && let Some((_, field)) = place.split_once('.')
    {
        fields.push(field);
        rest = after;
    }
    fields.reverse();
    let field = match fields.is_empty() {
        true => WHOLE.to_owned(),
        false => fields.join("."),
    };
    (field, format!("cannot be decoded: {rest}"))
}
