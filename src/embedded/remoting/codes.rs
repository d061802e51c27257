//! The codes a server knows: those our own client uses, and those of Java's clients and administrators.

pub(super) use crate::transport::remoting::command::code::*;

/// As 11, and on Apache without authorisation.
pub(super) const LITE_PULL_MESSAGE: i32 = 361;
pub(super) const UPDATE_AND_CREATE_TOPIC: i32 = 17;
pub(super) const GET_EARLIEST_MSG_STORE_TIME: i32 = 32;
pub(super) const LOCK_BATCH_MQ: i32 = 41;
pub(super) const UNLOCK_BATCH_MQ: i32 = 42;
pub(super) const GET_BROKER_CLUSTER_INFO: i32 = 106;
pub(super) const UPDATE_AND_CREATE_SUBSCRIPTION_GROUP: i32 = 200;
pub(super) const GET_TOPIC_STATS_INFO: i32 = 202;
pub(super) const GET_ALL_TOPIC_LIST_FROM_NAMESERVER: i32 = 206;
pub(super) const GET_SYSTEM_TOPIC_LIST_FROM_NS: i32 = 304;
pub(super) const GET_CONSUME_STATS: i32 = 208;
pub(super) const DELETE_TOPIC_IN_BROKER: i32 = 215;
pub(super) const DELETE_TOPIC_IN_NAMESRV: i32 = 216;
pub(super) const INVOKE_BROKER_TO_RESET_OFFSET: i32 = 222;
pub(super) const INVOKE_BROKER_TO_GET_CONSUMER_STATUS: i32 = 223;
pub(super) const GET_TOPICS_BY_CLUSTER: i32 = 224;
/// With short names of its fields.
pub(super) const SEND_MESSAGE_V2: i32 = 310;
/// A body of several messages.
pub(super) const SEND_BATCH_MESSAGE: i32 = 320;
pub(super) const GET_TOPIC_CONFIG: i32 = 351;
pub(super) const GET_SUBSCRIPTION_GROUP_CONFIG: i32 = 352;
/// A client that was asked by way of its broker did not answer in time.
pub(super) const CONSUME_MSG_TIMEOUT: i32 = 207;
