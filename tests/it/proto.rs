//! The wire as the crate's own generated code has it: the crate keeps it private, and the tap speaks it.
#![allow(
    dead_code,
    unnameable_types,
    unreachable_pub,
    reason = "generated for another place; the tap uses a part of it"
)]
#![allow(
    unused_qualifications,
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    clippy::enum_variant_names,
    clippy::large_enum_variant,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::or_fun_call,
    clippy::missing_errors_doc,
    reason = "the style of the generators, not ours to choose"
)]

include!("../../src/proto/apache.rocketmq.v2.rs");
