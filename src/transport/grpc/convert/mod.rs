//! Between the interface of gRPC v2 and the model, both ways, as plain functions. Nothing else knows both.
//!
//! What the server sends is not trusted: no value of any field panics here, and enum values of later versions are
//! `Unknown`.

mod answer;
mod command;
mod fields;
mod message;
mod pull;
mod quick;
mod request;
mod route;
mod settings;
mod status;
mod value;
mod written;

pub(crate) use answer::{acked, changed_handle, sent};
pub(crate) use command::{reply, server_command};
pub(crate) use message::{Damaged, Reading, damaged_frame, receive_frame};
pub(crate) use pull::{PullAnswer, committed_offset, queried_offset, use_name_server};
pub(crate) use quick::quick_message;
pub(crate) use request::Requests;
pub(crate) use route::route;
pub(crate) use status::Context;
pub(crate) use written::Written;
