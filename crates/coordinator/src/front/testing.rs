//! What the unit tests of several files need.

use std::sync::{Arc, LazyLock};

use tokenizer::Tokenizer;

/// Returns the tokenizer of a small synthetic checkpoint, made once.
pub(super) fn tiny_tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let files = tokenizer::synthetic::tokenizer_json(2048).unwrap();
        Arc::new(Tokenizer::from_bytes(&files.tokenizer_json).unwrap())
    });
    Arc::clone(&TOKENIZER)
}
