//! `GET /v1/models` and `/v1/models/{name}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;

use super::error::HttpError;
use crate::front::Shared;

/// OpenAI's model object, with the context's length as vLLM names it.
#[derive(Debug, Serialize)]
pub(super) struct ModelObject {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    max_model_len: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<ModelObject>,
}

/// Lists the model under each of its names.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<ModelList> {
    let names = std::iter::once(&shared.model.name).chain(&shared.model.aliases);
    Json(ModelList {
        object: "list",
        data: names.map(|name| object(&shared, name)).collect(),
    })
}

/// Shows the model under one of its names.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>, HttpError> {
    let Path(name) = name.map_err(|rejection| HttpError::Path {
        why: rejection.body_text(),
    })?;
    shared.model.check_name(&name, "model")?;
    Ok(Json(object(&shared, &name)))
}

fn object(shared: &Shared, name: &str) -> ModelObject {
    ModelObject {
        id: name.to_owned(),
        object: "model",
        created: shared.started_at,
        owned_by: "conclave",
        max_model_len: shared.model.max_context,
    }
}
