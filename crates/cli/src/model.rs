//! Opens what a command names as its model: weights, and the tokenizer that belongs to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::synth::{Preset, Spec, SpecialIds};
use checkpoint::{Checkpoint, ModelName};
use tokenizer::Tokenizer;
use tokenizer::synthetic::{SyntheticTokenizer, tokenizer_json};

use crate::commands::synth;
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
        ModelName::Synth(spec) => Checkpoint::synth(&spec).map_err(in_words),
    }
}

/// Opens weights and tokenizer.
pub(crate) fn open(name: &str) -> Result<Model, String> {
    let (name, checkpoint, tokenizer) = match parse(name)? {
        ModelName::Dir(dir) => {
            let checkpoint = Checkpoint::open(&dir).map_err(in_words)?;
            let tokenizer = Tokenizer::from_file(&dir.join(TOKENIZER));
            (folder_name(&dir), checkpoint, tokenizer)
        }
        ModelName::Synth(mut spec) => {
            let files = synthetic_tokenizer(&mut spec)?;
            let checkpoint = Checkpoint::synth(&spec).map_err(in_words)?;
            (
                name.to_owned(),
                checkpoint,
                Tokenizer::from_bytes(&files.tokenizer_json),
            )
        }
    };
    let tokenizer = Arc::new(tokenizer.map_err(in_words)?);
    Ok(Model {
        name,
        checkpoint,
        tokenizer,
    })
}

/// Returns the folder of the model that runs when none is named: tiny, of random weights, written
/// into the cache folder the first time.
pub(crate) fn default_model() -> Result<String, String> {
    let dir = cache_folder()?.join(concat!("tiny-", env!("CARGO_PKG_VERSION")));
    if Checkpoint::open(&dir).is_err() {
        let folder = cache_folder()?;
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        eprintln!(
            "writing a tiny model of random weights to {} ...",
            dir.display()
        );
        synth::write(&dir, Spec::new(Preset::Tiny), true)?;
    }
    Ok(dir.display().to_string())
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

fn folder_name(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    whole.file_name().map_or_else(
        || "model".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The cache folder of the XDG base directory specification.
fn cache_folder() -> Result<PathBuf, String> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set; say --model")?;
    Ok(cache.join("conclave"))
}
