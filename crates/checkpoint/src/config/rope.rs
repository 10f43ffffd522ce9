//! The rotary settings in their two forms.

use serde_json::Value;
use spec::Rope;

use super::fields::Fields;

/// What transformers assumes where a configuration is silent.
const BETA_FAST: f64 = 32.0;
const BETA_SLOW: f64 = 1.0;
const TRUNCATE: bool = true;

/// Stands in for a base that is missing, which was reported.
const NO_THETA: f64 = 10_000.0;

const ORIGINAL: &str = "original_max_position_embeddings";

/// Reads the rotary settings; what is missing or unknown is reported.
pub(super) fn read(fields: &mut Fields<'_>) -> Rope {
    let trained_on = fields.size("initial_context_length");
    // The newer form holds everything; the published one keeps theta outside.
    if let Some(mut inside) = fields.child("rope_parameters", false) {
        let theta = inside.need_real("rope_theta");
        let rope = scaling(&mut inside, theta, trained_on);
        fields.join(inside);
        return rope;
    }
    let theta = fields.need_real("rope_theta");
    match fields.child("rope_scaling", true) {
        Some(mut inside) => {
            let rope = scaling(&mut inside, theta, trained_on);
            fields.join(inside);
            rope
        }
        None => unscaled(theta),
    }
}

/// Returns settings that do not stretch the context.
pub(super) fn unscaled(theta: Option<f64>) -> Rope {
    Rope {
        theta: theta.unwrap_or(NO_THETA),
        factor: 1.0,
        beta_fast: BETA_FAST,
        beta_slow: BETA_SLOW,
        original_max_positions: 0,
        truncate: TRUNCATE,
    }
}

fn scaling(fields: &mut Fields<'_>, theta: Option<f64>, trained_on: Option<usize>) -> Rope {
    let kind = fields.value("rope_type").or(fields.value("type"));
    if kind == Some(&Value::from("default")) {
        return unscaled(theta);
    }
    match kind {
        Some(kind) if kind != "yarn" => {
            fields.refuse("rope_type", r#""yarn" or "default""#.to_owned(), kind);
        }
        Some(_) => {}
        None => fields.missing("rope_type"),
    }
    // Each of these changes the factor on cos and sin, which follows from `factor` alone here.
    for key in ["attention_factor", "mscale", "mscale_all_dim"] {
        if let Some(found) = fields.value(key) {
            fields.refuse(key, "no such key".to_owned(), found);
        }
    }
    let original = fields.size(ORIGINAL).or(trained_on);
    match original {
        Some(0) => fields.refuse(ORIGINAL, "at least 1".to_owned(), &0.into()),
        Some(_) => {}
        None => fields.missing(ORIGINAL),
    }
    Rope {
        theta: theta.unwrap_or(NO_THETA),
        factor: fields.need_real("factor").unwrap_or(1.0),
        beta_fast: fields.real("beta_fast").unwrap_or(BETA_FAST),
        beta_slow: fields.real("beta_slow").unwrap_or(BETA_SLOW),
        original_max_positions: original.unwrap_or(0) as u32,
        truncate: fields.flag("truncate").unwrap_or(TRUNCATE),
    }
}
