//! The descriptors of etcd's API, which spare a build protoc, are those of the crate that is built.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use prost::Message;

/// The files that the build script of etcd-client compiles.
const FILES: [&str; 5] = [
    "etcd/api/authpb/auth.proto",
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/api/mvccpb/kv.proto",
    "etcd/server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    "etcd/server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
];

/// Where cargo has put the source of etcd-client.
fn source() -> PathBuf {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.other_options(["--locked".to_owned()]);
    let packages = command.exec().unwrap().packages;
    let mut found = packages
        .iter()
        .filter(|package| package.name == "etcd-client");
    let manifest = found.next().unwrap().manifest_path.as_std_path();
    manifest.parent().unwrap().to_owned()
}

#[test]
fn the_descriptors_of_etcd_are_made_of_the_files_that_its_client_ships() {
    let source = source();
    let script = std::fs::read_to_string(source.join("build.rs")).unwrap();
    assert_eq!(script.matches(".proto\"").count(), FILES.len(), "{script}");
    for file in FILES {
        assert!(
            script.contains(&format!("\"proto/{file}\"")),
            "{file} is not built"
        );
    }
    let mut made = protox::compile(FILES, [source.join("proto")]).unwrap();
    // Comments: three quarters of the bytes, and of no use to a build.
    for file in &mut made.file {
        file.source_code_info = None;
    }
    let made = made.encode_to_vec();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/store/etcd/descriptors.bin");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("descriptors.bin");
    std::fs::write(&fresh, &made).unwrap();
    assert!(
        std::fs::read(&kept).unwrap_or_default() == made,
        "etcd-client has other .proto files than {kept:?} was made of: cp {fresh:?} {kept:?}"
    );
}
