//! Compiles the `.proto` files without `protoc`.

use std::path::Path;

const FILES: [&str; 8] = [
    "conclave/v1/generation.proto",
    "conclave/internal/v1/admin.proto",
    "conclave/internal/v1/cluster.proto",
    "conclave/internal/v1/step.proto",
    "conclave/internal/v1/exchange.proto",
    "conclave/internal/v1/identity.proto",
    "conclave/internal/v1/lead.proto",
    "conclave/internal/v1/store.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".conclave.internal.v1.PushRequest.payload")
        .compile_fds(descriptors)?;
    Ok(())
}
