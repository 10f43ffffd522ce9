//! What the unit tests of several files need.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use spec::Sampling;
use telemetry::{About, Telemetry};
use tokenizer::Tokenizer;
use tokio::sync::watch;

use super::{Front, FrontConfig, Model, Shared};

/// Returns the tokenizer of a small synthetic checkpoint, made once.
pub(super) fn tiny_tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let files = tokenizer::synthetic::tokenizer_json(2048).unwrap();
        Arc::new(Tokenizer::from_bytes(&files.tokenizer_json).unwrap())
    });
    Arc::clone(&TOKENIZER)
}

/// Returns the shared state of a front whose lead is nowhere.
pub(super) fn shared() -> Arc<Shared> {
    let config = FrontConfig::new(Duration::from_millis(200), sockets::Dialer::default());
    let model = Model {
        name: "gpt-oss-tiny".into(),
        aliases: Vec::new(),
        max_context: 1024,
        max_output: u32::MAX,
        vocab_size: 2100,
        weights_fingerprint: "aa".into(),
        tokenizer_fingerprint: "bb".into(),
        numerics: "exact".into(),
        eos_tokens: Vec::new(),
        default_sampling: Sampling::default(),
    };
    let nowhere = [("0".to_owned(), "http://127.0.0.1:1".to_owned())].into();
    let leads = watch::channel(nowhere).1;
    let telemetry = Telemetry::coordinator(About::default(), vec!["0".into()], 1);
    Front::start(config, model, tiny_tokenizer(), leads, telemetry).shared
}
