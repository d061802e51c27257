//! Numbers: what a request asks, how an answer went (protocol.md E.3).

/// Requests of clients.
pub(crate) const SEND_MESSAGE: i32 = 10;
/// Never 361: that bypasses the server's authorisation.
pub(crate) const PULL_MESSAGE: i32 = 11;
pub(crate) const QUERY_CONSUMER_OFFSET: i32 = 14;
pub(crate) const UPDATE_CONSUMER_OFFSET: i32 = 15;
pub(crate) const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
pub(crate) const GET_MAX_OFFSET: i32 = 30;
pub(crate) const GET_MIN_OFFSET: i32 = 31;
pub(crate) const HEART_BEAT: i32 = 34;
pub(crate) const UNREGISTER_CLIENT: i32 = 35;
pub(crate) const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
pub(crate) const CHECK_CLIENT_CONFIG: i32 = 46;
pub(crate) const GET_ROUTE_BY_TOPIC: i32 = 105;
pub(crate) const GET_CONSUMER_CONNECTION_LIST: i32 = 203;
/// Requests of brokers.
pub(crate) const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
pub(crate) const RESET_CONSUMER_CLIENT_OFFSET: i32 = 220;
pub(crate) const GET_CONSUMER_STATUS_FROM_CLIENT: i32 = 221;
pub(crate) const GET_CONSUMER_RUNNING_INFO: i32 = 307;

/// Answers.
pub(crate) const SUCCESS: i32 = 0;
pub(crate) const SYSTEM_ERROR: i32 = 1;
pub(crate) const SYSTEM_BUSY: i32 = 2;
pub(crate) const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
pub(crate) const FLUSH_DISK_TIMEOUT: i32 = 10;
pub(crate) const SLAVE_NOT_AVAILABLE: i32 = 11;
pub(crate) const FLUSH_SLAVE_TIMEOUT: i32 = 12;
pub(crate) const MESSAGE_ILLEGAL: i32 = 13;
pub(crate) const SERVICE_NOT_AVAILABLE: i32 = 14;
pub(crate) const VERSION_NOT_SUPPORTED: i32 = 15;
pub(crate) const NO_PERMISSION: i32 = 16;
pub(crate) const TOPIC_NOT_EXIST: i32 = 17;
pub(crate) const PULL_NOT_FOUND: i32 = 19;
pub(crate) const PULL_RETRY_IMMEDIATELY: i32 = 20;
pub(crate) const PULL_OFFSET_MOVED: i32 = 21;
pub(crate) const QUERY_NOT_FOUND: i32 = 22;
pub(crate) const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
pub(crate) const SUBSCRIPTION_NOT_EXIST: i32 = 24;
pub(crate) const SUBSCRIPTION_NOT_LATEST: i32 = 25;
pub(crate) const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
pub(crate) const FILTER_DATA_NOT_EXIST: i32 = 27;
pub(crate) const FILTER_DATA_NOT_LATEST: i32 = 28;
pub(crate) const INVALID_PARAMETER: i32 = 29;
pub(crate) const CONSUMER_NOT_ONLINE: i32 = 206;
pub(crate) const FLOW_CONTROL: i32 = 215;
pub(crate) const NOT_LEADER_FOR_QUEUE: i32 = 501;
pub(crate) const GO_AWAY: i32 = 1500;
