//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::Code;

use crate::front::error::Error;

/// Why an HTTP request was not served.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::front) enum HttpError {
    /// As by gRPC.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The path holds no text.
    #[error("the path cannot be read: {why}")]
    Path { why: String },
    /// The body cannot be read.
    #[error("the body cannot be read: {why}")]
    Body { status: StatusCode, why: String },
    /// The body is no JSON object.
    #[error("the body is not a JSON object: {why}")]
    NotJson { why: String },
    /// Nothing is there.
    #[error("there is nothing at {path}")]
    UnknownPath { path: String },
    /// Something is there, but not for this method.
    #[error("{path} does not take {method}")]
    WrongMethod { method: Method, path: String },
}

/// The body of an error.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    error: Detail,
}

#[derive(Debug, Serialize)]
struct Detail {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: String,
}

impl HttpError {
    /// Returns the status.
    pub(in crate::front) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(error) => status(error.code()),
            Self::Body { status, .. } => *status,
            Self::Path { .. } | Self::NotJson { .. } => StatusCode::BAD_REQUEST,
            Self::UnknownPath { .. } => StatusCode::NOT_FOUND,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Returns the body.
    pub(super) fn body(&self) -> ErrorBody {
        let status = self.status();
        let (param, code) = match self {
            // OpenAI's own name for it, which clients look for.
            Self::Refused(Error::UnknownModel { .. }) => {
                (Some("model".to_owned()), "model_not_found".to_owned())
            }
            Self::Refused(error) => (
                error.at_field().map(str::to_owned),
                error.reason().to_ascii_lowercase(),
            ),
            Self::Path { .. } => (None, "path_unreadable".to_owned()),
            Self::Body { .. } => (None, "body_unreadable".to_owned()),
            Self::NotJson { .. } => (None, "body_not_json".to_owned()),
            Self::UnknownPath { .. } => (None, "path_unknown".to_owned()),
            Self::WrongMethod { .. } => (None, "method_not_allowed".to_owned()),
        };
        let r#type = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        ErrorBody {
            error: Detail {
                message: self.to_string(),
                r#type,
                param,
                code,
            },
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        if let Self::Refused(error) = &self
            && let Some(delay) = error.retry_after()
        {
            // Whole seconds, rounded up: a client that comes too early is refused again.
            let seconds = delay.as_millis().div_ceil(1000).max(1);
            let seconds = HeaderValue::from_str(&seconds.to_string());
            response.headers_mut().insert(
                header::RETRY_AFTER,
                seconds.expect("digits are a header value"),
            );
        }
        response
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        // A feature that does not exist is the client's mistake: 501 would speak of the method.
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Cancelled => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
