//! Server reflection over the public API only, in both versions that clients use.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic_reflection::server::{Builder, v1, v1alpha};

/// Returns grpc.reflection.v1 and v1alpha (older command line clients know only that).
pub(super) fn services() -> (
    v1::ServerReflectionServer<impl v1::ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
) {
    let whole = "the embedded descriptors are whole";
    (
        builder().build_v1().expect(whole),
        builder().build_v1alpha().expect(whole),
    )
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_file_descriptor_set(public())
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that clients can read the details of an error.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Returns our descriptors without those of the internal services, which no client can reach.
fn public() -> FileDescriptorSet {
    let mut all = FileDescriptorSet::decode(proto::DESCRIPTORS)
        .expect("the build script wrote a descriptor set");
    all.file
        .retain(|file| !file.package().starts_with("conclave.internal"));
    all
}
