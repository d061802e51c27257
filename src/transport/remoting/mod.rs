//! The remoting wire: to name servers and brokers, and to a proxy's remoting port.
//!
//! `frame`, `command` and `stored` know its bytes, both ways, and decide nothing else.

#![allow(dead_code, reason = "the wire that uses it is not there yet")]

pub(crate) mod command;
pub(crate) mod frame;
pub(crate) mod stored;
