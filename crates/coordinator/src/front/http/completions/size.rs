//! How large an answer may become: each position with logprobs is some tens of bytes for each of its
//! alternatives, and choices multiply them.

use crate::front::error::Error;
use crate::front::limits;
use crate::front::request::Request;

/// Checks that the logprobs of all sequences fit together into one answer. In a stream the output's
/// come and go, and count nothing.
///
/// # Errors
///
/// [`Error::Field`].
pub(super) fn check(requests: &[Request], is_stream: bool) -> Result<(), Error> {
    let entries = |positions: usize, top: Option<u32>| {
        top.map_or(0, |top| positions.saturating_mul(1 + top as usize))
    };
    let sizes = requests.iter().map(|request| {
        let sampling = &request.sampling;
        let prompt = entries(request.prompt.len(), sampling.prompt_logprobs);
        match is_stream {
            true => prompt,
            false => prompt + entries(request.max_tokens as usize, sampling.logprobs),
        }
    });
    let size: usize = sizes.sum();
    if size <= limits::MAX_ANSWER_LOGPROBS {
        return Ok(());
    }
    let why = format!(
        "{size} in all, alternatives included, are more than the {} that an answer may have; ask for \
         fewer positions or choices at a time",
        limits::MAX_ANSWER_LOGPROBS
    );
    Err(Error::field("logprobs", why))
}

#[cfg(test)]
mod tests {
    use proto::v1::{self, generate_request::Prompt};

    use super::{check, limits};
    use crate::front::request::Request;
    use crate::front::testing::shared;
    use crate::front::{Shared, generate};

    const TOP: u32 = 20;

    async fn request(shared: &std::sync::Arc<Shared>, length: usize, output: u32) -> Request {
        let ids = vec![1; length];
        let request = v1::GenerateRequest {
            prompt: Some(Prompt::TokenIds(v1::TokenIds { ids })),
            logprobs: Some(v1::LogprobParams {
                output: true,
                top: TOP,
                prompt: true,
            }),
            stop: Some(v1::StopParams {
                max_output_tokens: Some(output),
                ..Default::default()
            }),
            ..Default::default()
        };
        generate::check(shared, request, generate::Origin::Http)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn refuses_more_logprobs_than_an_answer_holds() {
        let shared = shared();
        let most = limits::MAX_ANSWER_LOGPROBS / (1 + TOP as usize);
        let scored = request(&shared, 1000, 10).await;
        let fitting = vec![scored; most / 1010];
        assert!(check(&fitting, false).is_ok());
        let surplus = vec![fitting[0].clone(); most / 1000 + 1];
        for is_stream in [false, true] {
            let error = check(&surplus, is_stream).unwrap_err();
            assert_eq!(error.at_field(), Some("logprobs"));
        }
        let long = request(&shared, 10, 1000).await;
        let written = vec![long; most / 1000];
        assert!(check(&written, false).is_err());
        assert!(check(&written, true).is_ok());
    }

    #[tokio::test]
    async fn answers_without_logprobs_have_no_such_limit() {
        let mut silent = request(&shared(), 1000, 10).await;
        silent.sampling.logprobs = None;
        silent.sampling.prompt_logprobs = None;
        assert!(check(&vec![silent; 10_000], false).is_ok());
    }
}
