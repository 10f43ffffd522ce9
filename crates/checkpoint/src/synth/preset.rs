//! The models that have a name.

use super::Spec;

/// A named set of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A few hundred kilobytes, every side of another length: for tests.
    Tiny,
    /// The sizes of the trained model in `models/mini`: real heads and window.
    Mini,
    /// gpt-oss-20b.
    Gpt20b,
    /// gpt-oss-120b.
    Gpt120b,
}

impl Preset {
    /// All of them, smallest first.
    pub const ALL: [Self; 4] = [Self::Tiny, Self::Mini, Self::Gpt20b, Self::Gpt120b];

    /// Returns the name used in descriptions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Mini => "mini",
            Self::Gpt20b => "20b",
            Self::Gpt120b => "120b",
        }
    }

    pub(super) const fn spec(self) -> Spec {
        let published = Spec {
            preset: self,
            layers: 24,
            experts: 32,
            experts_per_token: 4,
            hidden: 2880,
            intermediate: 2880,
            heads: 64,
            kv_heads: 8,
            head_dim: 64,
            vocab: 201_088,
            window: 128,
            seed: 0,
            // Where the published files were cut.
            shard_bytes: 4_800_000_000,
            edge_scales: false,
            special: None,
        };
        match self {
            Self::Tiny => Spec {
                layers: 4,
                experts: 8,
                hidden: 64,
                intermediate: 96,
                heads: 4,
                kv_heads: 2,
                head_dim: 16,
                vocab: 512,
                window: 8,
                ..published
            },
            Self::Mini => Spec {
                layers: 4,
                experts: 16,
                hidden: 192,
                intermediate: 128,
                heads: 8,
                kv_heads: 1,
                vocab: 3072,
                ..published
            },
            Self::Gpt20b => published,
            Self::Gpt120b => Spec {
                layers: 36,
                experts: 128,
                ..published
            },
        }
    }
}
