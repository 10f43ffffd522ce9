//! The generated wire types, and nothing else.

/// The public API.
pub mod v1 {
    tonic::include_proto!("conclave.v1");
}

/// What coordinators and workers say to each other.
#[expect(
    clippy::large_enum_variant,
    reason = "a registration beside a heartbeat, which is sent once a stream"
)]
pub mod internal {
    tonic::include_proto!("conclave.internal.v1");
}

/// The compiled `.proto` files, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The wire version this build speaks, between coordinators and workers.
pub const WIRE_VERSION: u32 = 1;
