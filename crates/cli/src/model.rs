//! Opens what a command names as its model: weights, and the tokenizer that belongs to them.

use std::path::Path;
use std::sync::Arc;

use checkpoint::synth::{Spec, SpecialIds};
use checkpoint::{Checkpoint, ModelName};
use tokenizer::Tokenizer;
use tokenizer::synthetic::{SyntheticTokenizer, tokenizer_json};

use crate::in_words;

/// Name of the tokenizer's file in a checkpoint.
const TOKENIZER: &str = "tokenizer.json";

/// A model with everything a coordinator needs of it.
pub(crate) struct Model {
    /// Short name, as clients see it.
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

/// Opens the weights that `name` names; checks everything that headers can show.
pub(crate) fn open_checkpoint(name: &str) -> Result<Checkpoint, String> {
    match parse(name)? {
        ModelName::Dir(dir) => Checkpoint::open(&dir).map_err(in_words),
        ModelName::Synth(mut spec) => {
            synthetic_tokenizer(&mut spec)?;
            Checkpoint::synth(&spec).map_err(in_words)
        }
    }
}

/// Returns a model's short name, as clients see it, without opening it.
pub(crate) fn short_name(name: &str) -> Result<String, String> {
    Ok(match parse(name)? {
        ModelName::Dir(dir) => folder_name(&dir),
        ModelName::Synth(_) => name.to_owned(),
    })
}

/// Returns the fingerprint of a model's tokenizer; empty if the folder holds none.
pub(crate) fn tokenizer_fingerprint(name: &str) -> Result<String, String> {
    let tokenizer = match parse(name)? {
        ModelName::Dir(dir) => match dir.join(TOKENIZER) {
            file if file.exists() => Tokenizer::from_file(&file),
            _ => return Ok(String::new()),
        },
        ModelName::Synth(mut spec) => {
            Tokenizer::from_bytes(&synthetic_tokenizer(&mut spec)?.tokenizer_json)
        }
    };
    Ok(tokenizer.map_err(in_words)?.fingerprint().to_owned())
}

/// Opens weights and tokenizer.
pub(crate) fn open(name: &str) -> Result<Model, String> {
    let (checkpoint, tokenizer) = match parse(name)? {
        ModelName::Dir(dir) => {
            let checkpoint = Checkpoint::open(&dir).map_err(in_words)?;
            (checkpoint, Tokenizer::from_file(&dir.join(TOKENIZER)))
        }
        ModelName::Synth(mut spec) => {
            let files = synthetic_tokenizer(&mut spec)?;
            let checkpoint = Checkpoint::synth(&spec).map_err(in_words)?;
            (checkpoint, Tokenizer::from_bytes(&files.tokenizer_json))
        }
    };
    let tokenizer = Arc::new(tokenizer.map_err(in_words)?);
    let (ids, rows) = (tokenizer.vocab_len(), checkpoint.geometry().vocab_size);
    if ids > rows {
        return Err(format!(
            "--model {name}: {TOKENIZER} has {ids} tokens, the model's vocab_size is {rows}; they are \
             not of one checkpoint"
        ));
    }
    Ok(Model {
        name: short_name(name)?,
        checkpoint,
        tokenizer,
    })
}

/// Makes the tokenizer of a synthetic model and gives its special ids to the model.
pub(crate) fn synthetic_tokenizer(spec: &mut Spec) -> Result<SyntheticTokenizer, String> {
    let files = tokenizer_json(spec.vocab).map_err(in_words)?;
    let SyntheticTokenizer {
        bos,
        pad,
        eos,
        call,
        ..
    } = files;
    spec.special = Some(SpecialIds {
        bos,
        pad,
        eos,
        call,
    });
    Ok(files)
}

/// Reads what `--model` says.
pub(crate) fn parse(name: &str) -> Result<ModelName, String> {
    ModelName::parse(name).map_err(|error| format!("--model {name}: {}", in_words(error)))
}

/// The folder's own name, also where it links to one named otherwise, as in a download's cache.
fn folder_name(dir: &Path) -> String {
    let named = dir.file_name().map(std::ffi::OsStr::to_owned);
    let whole = || dir.canonicalize().ok()?.file_name().map(Into::into);
    named.or_else(whole).map_or_else(
        || "model".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use checkpoint::synth::Preset;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::commands::synth;

    /// Writes a small model, with the tokenizer of another vocabulary.
    fn written(dir: &Path, tokenizer_vocab: usize) {
        let mut spec = Spec::new(Preset::Tiny);
        spec.vocab = 1024;
        assert!(synth::write(dir, spec, false, &CancellationToken::new()).is_ok());
        let files = tokenizer_json(tokenizer_vocab).unwrap();
        fs::write(dir.join(TOKENIZER), files.tokenizer_json).unwrap();
    }

    #[test]
    fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("mixed");
        written(&dir, 2048);
        let refused = open(dir.to_str().unwrap()).err().unwrap();
        let given = format!("--model {}:", dir.display());
        for part in [given.as_str(), "2048", "1024", TOKENIZER] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn a_model_is_named_as_its_folder_is_called_also_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (stored, link) = (folder.path().join("6cee5e81"), folder.path().join("gpt"));
        written(&stored, 1024);
        std::os::unix::fs::symlink(&stored, &link).unwrap();
        for (given, name) in [
            (&link, "gpt"),
            (&link.join("."), "gpt"),
            (&stored, "6cee5e81"),
        ] {
            assert_eq!(open(given.to_str().unwrap()).unwrap().name, name);
        }
    }
}
