//! A foreign client: Python's gRPC, with stubs made from `proto/` alone.

use std::process::Command;

use e2e::{Cluster, Setup, tool};

#[test]
fn a_python_client_made_from_the_proto_files_works() {
    let Some(python) = tool("CONCLAVE_TEST_PYTHON", "the Python client") else {
        return;
    };
    let cluster = Cluster::start(&Setup::mini(2));
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
