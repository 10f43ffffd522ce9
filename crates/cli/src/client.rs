//! What `generate` and `chat` share: a connection to the API, and errors that teach.

use std::time::Duration;

use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::model_service_client::ModelServiceClient;
use proto::v1::{SamplingParams, StopParams};
use sockets::Dialer;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::args::{SamplingArgs, ServerArgs};

/// Largest message from the server: a token with its alternatives is far below.
const MAX_MESSAGE: usize = 16 << 20;

/// A server is asked for a sign of life this often while a stream is open; gRPC servers of other makes
/// tolerate no more than twice a minute.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A server that gives none for this long is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to the API for generation.
pub(crate) async fn connect(args: &ServerArgs) -> Result<GenerationServiceClient<Channel>, String> {
    let client = GenerationServiceClient::new(channel(args).await?);
    Ok(client.max_decoding_message_size(MAX_MESSAGE))
}

/// Connects to the API that lists models.
pub(crate) async fn models(args: &ServerArgs) -> Result<ModelServiceClient<Channel>, String> {
    Ok(ModelServiceClient::new(channel(args).await?))
}

async fn channel(args: &ServerArgs) -> Result<Channel, String> {
    let server = match args.server.contains("://") {
        true => args.server.clone(),
        false => format!("http://{}", args.server),
    };
    let endpoint = Endpoint::from_shared(server.clone())
        .map_err(|error| format!("--server '{server}' is no URI: {error}"))?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    Dialer::default().connect(&endpoint).await.map_err(|_| {
        format!("nothing answers at {server}; start a cluster with 'conclave up', or say --server")
    })
}

/// Turns the command line's choices into the API's.
pub(crate) fn sampling(args: &SamplingArgs) -> SamplingParams {
    SamplingParams {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
        ..SamplingParams::default()
    }
}

/// Turns the command line's limits into the API's.
pub(crate) fn stop(args: &SamplingArgs) -> StopParams {
    StopParams {
        max_output_tokens: args.max_tokens,
        ..StopParams::default()
    }
}

/// Says what a refusal means for a person.
pub(crate) fn in_words(status: &Status) -> String {
    let said = status.message();
    match status.code() {
        Code::Unavailable => format!("the cluster is not ready: {said}"),
        Code::InvalidArgument => format!("the request is refused: {said}"),
        Code::ResourceExhausted => format!("the cluster is full: {said}"),
        code => format!("{code:?}: {said}"),
    }
}
