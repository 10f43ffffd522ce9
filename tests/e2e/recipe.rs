//! What the small model is trained on and asked: the recipe's own tests, but for those that need PyTorch, and some of the
//! evaluation.

use std::process::Command;

use e2e::{binary, tool};

#[test]
fn the_recipe_trains_nothing_that_its_evaluation_asks() {
    let Some(python) = tool("CONCLAVE_TEST_PYTHON", "the recipe's tests") else {
        return;
    };
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/mini/recipe/tests");
    let output = Command::new(python)
        // Nothing is to be left in the source tree.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(tests)
        .args([
            "-m",
            "unittest",
            "test_conversations",
            "test_families",
            "test_served",
            "test_vocabulary",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ran = said
        .lines()
        .find_map(|line| line.strip_prefix("Ran ")?.split(' ').next());
    let ran: usize = ran.map_or(0, |number| number.parse().unwrap());
    assert!(output.status.success() && ran >= 31, "{said}");
}

/// Of the first 20 conversations of each family, how many in a hundred are right: as asked through PyTorch too.
const RIGHT: [&str; 12] = [
    "100.0", "90.0", "70.0", "95.0", "95.0", "100.0", "55.0", "95.0", "55.0", "70.0", "100.0",
    "85.0",
];

#[test]
fn the_model_in_the_box_keeps_what_its_card_claims() {
    let Some(python) = tool("CONCLAVE_TEST_PYTHON", "the small model's evaluation") else {
        return;
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // Few: all of them take half an hour (`cargo xtask eval-mini`).
    let output = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root)
        .arg("models/mini/recipe/served.py")
        .arg("--conclave")
        .arg(binary())
        .args(["--proto", "proto", "--model", "models/mini"])
        .args(["--count", "20", "--ranks", "1", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    // Computed exactly, so by every machine alike.
    let rows = said.lines().filter_map(|line| line.split_once(" | 20 | "));
    let found: Vec<_> = rows
        .map(|(_, row)| row.split(" | ").next().unwrap())
        .collect();
    assert_eq!(found, RIGHT, "{said}");
    assert!(
        said.contains("clusters of 1, 2 ranks: the same answers"),
        "{said}"
    );
}
