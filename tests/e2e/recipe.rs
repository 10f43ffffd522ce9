//! What the small model is trained on and asked: the recipe's own tests, but for those that need PyTorch.

use std::process::Command;

use e2e::tool;

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
            "test_vocabulary",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ran = said
        .lines()
        .find_map(|line| line.strip_prefix("Ran ")?.split(' ').next());
    let ran: usize = ran.map_or(0, |number| number.parse().unwrap());
    assert!(output.status.success() && ran > 15, "{said}");
}
