//! placeholder

mod proto;
