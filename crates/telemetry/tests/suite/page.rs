//! `docs/metrics.md` is that of the table.

use std::path::Path;

#[test]
fn the_page_on_disk_is_that_of_the_table() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.md");
    std::fs::write(&fresh, telemetry::page()).unwrap();
    assert!(
        std::fs::read_to_string(&kept).unwrap_or_default() == telemetry::page(),
        "the table of metrics is another than {kept:?} was made of: cp {fresh:?} {kept:?}"
    );
}
