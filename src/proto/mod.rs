//! The gRPC v2 wire: `proto/apache/rocketmq/v2/*.proto` as Rust.
//!
//! The included file is written by `tests/codegen.rs` and never by hand; that test fails when the two drift apart.
//! Conversion to and from the model is `transport::grpc::convert`'s alone.
#![allow(dead_code, reason = "the definition is whole; which half of it is used depends on the features")]
#![allow(unreachable_pub, unnameable_types, reason = "generated for a public module, kept in a private one")]
#![allow(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    reason = "the style of the generators, not ours to choose"
)]
#![allow(clippy::enum_variant_names, reason = "the names are the interface's")]
#![allow(
    clippy::large_enum_variant,
    reason = "the variant that is large is the message, which is what nearly every response holds"
)]

// `include!` rather than `mod`: rustfmt leaves the file as the generators wrote it.
include!("apache.rocketmq.v2.rs");
