//! A foreign client: Python's gRPC, with stubs made from `proto/` alone.

use std::io::Write;
use std::process::Command;

use e2e::{Cluster, Setup};

/// The Python with `tests/requirements.txt` in it; `cargo xtask test` makes it and says where.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("CONCLAVE_TEST_PYTHON");
    assert!(
        python.is_some() || std::env::var_os("CI").is_none(),
        "CONCLAVE_TEST_PYTHON is not set; run 'cargo xtask test --only cluster'"
    );
    python
}

#[test]
fn a_python_client_made_from_the_proto_files_works() {
    let Some(python) = python() else {
        // Not `eprintln!`, which is shown of failed tests only.
        let why = "run 'cargo xtask test --only cluster', which brings Python's gRPC";
        writeln!(std::io::stderr(), "SKIPPED the Python client: {why}").unwrap();
        return;
    };
    let cluster = Cluster::start(&Setup::tiny(2));
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/client.py");
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let address = cluster.grpc().trim_start_matches("http://");
    let output = Command::new(python)
        .args([here, proto, address])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("all good"),
        "{said}\n{errors}"
    );
}
