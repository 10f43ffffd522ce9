//! The facts of the served model that a front needs, and ModelService.

use proto::v1;
use proto::v1::model_service_server::ModelService;
use spec::{Sampling, TokenId};
use tonic::{Request, Response, Status};

use super::convert::{hash64, short_text};
use super::error::Error;

/// What a front knows of the model it serves.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Most positions of a sequence, prompt and output together; at least 2.
    pub max_context: u32,
    /// Most tokens of output that a request gets, whatever its context leaves.
    pub max_output: u32,
    /// Rows of the vocabulary: every token id is below.
    pub vocab_size: u32,
    /// Fingerprint of the weights, hexadecimal.
    pub weights_fingerprint: String,
    /// Fingerprint of the tokenizer, hexadecimal.
    pub tokenizer_fingerprint: String,
    /// Names the arithmetic of the group, such as "exact".
    pub numerics: String,
    /// Tokens that end the model's turn, as generation_config.json has them.
    pub eos_tokens: Vec<TokenId>,
    /// What sampling parameters become that a request does not set.
    pub default_sampling: Sampling,
}

impl Model {
    /// Finds fault with a model's name in this field of a request; an empty one means the served
    /// model.
    pub(super) fn check_name(&self, name: &str, field: &str) -> Result<(), Error> {
        short_text(name, field)?;
        let is_known = name.is_empty() || name == self.name;
        if is_known || self.aliases.iter().any(|alias| alias == name) {
            return Ok(());
        }
        Err(Error::UnknownModel {
            name: name.to_owned(),
            served: self.name.clone(),
        })
    }

    /// Returns a fingerprint of what a coordinator is told of all that decides an answer. Processors that round differently
    /// under one kind of numerics are kept out of one group, but two groups may have each one of them.
    pub(super) fn system_fingerprint(&self) -> String {
        let parts = [
            &self.weights_fingerprint,
            &self.tokenizer_fingerprint,
            &self.numerics,
        ];
        let joined = parts.map(|part| format!("{}:{part}", part.len())).concat();
        format!("fp_{:016x}", hash64(&joined))
    }

    fn to_wire(&self) -> v1::Model {
        let sampling = &self.default_sampling;
        v1::Model {
            name: self.name.clone(),
            aliases: self.aliases.clone(),
            max_context_tokens: self.max_context,
            max_output_tokens: self.max_output.min(self.max_context - 1),
            vocab_size: self.vocab_size,
            weights_fingerprint: self.weights_fingerprint.clone(),
            tokenizer_fingerprint: self.tokenizer_fingerprint.clone(),
            default_sampling: Some(v1::SamplingParams {
                temperature: Some(sampling.temperature),
                top_p: Some(sampling.top_p),
                top_k: Some(sampling.top_k),
                min_p: Some(sampling.min_p),
                presence_penalty: Some(sampling.presence_penalty),
                frequency_penalty: Some(sampling.frequency_penalty),
                repetition_penalty: Some(sampling.repetition_penalty),
                seed: None,
                logit_bias: sampling
                    .logit_bias
                    .iter()
                    .map(|(t, bias)| (t.0, *bias))
                    .collect(),
            }),
        }
    }
}

/// ModelService over the one model there is.
#[derive(Clone, Debug)]
pub(super) struct Models(pub(super) std::sync::Arc<Model>);

#[tonic::async_trait]
impl ModelService for Models {
    async fn list_models(
        &self,
        _: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        Ok(Response::new(v1::ListModelsResponse {
            models: vec![self.0.to_wire()],
        }))
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        self.0.check_name(&request.into_inner().name, "name")?;
        Ok(Response::new(v1::GetModelResponse {
            model: Some(self.0.to_wire()),
        }))
    }
}
