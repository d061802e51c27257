//! Saying no, in the codes and words of 5.5.0.

use super::codes as code;
use crate::embedded::engine::Refusal;
use crate::error::Error;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    pub(super) code: i32,
    pub(super) remark: String,
}

impl No {
    pub(super) fn new(code: i32, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    pub(super) fn no_topic(topic: &str) -> Self {
        Self::new(code::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist, apply first please!"))
    }
}

/// A header or body that cannot be read.
impl From<Error> for No {
    fn from(error: Error) -> Self {
        Self::new(code::SYSTEM_ERROR, error.to_string())
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TopicNotFound(topic) => Self::no_topic(&topic),
            Refusal::NoQueue { queue, queues } => Self::new(
                code::INVALID_PARAMETER,
                format!("queueId[{queue}] is illegal, the topic has {queues} queues"),
            ),
            Refusal::GroupNotFound(group) => {
                Self::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} not exist!"))
            }
            Refusal::Unreachable(broker) | Refusal::NoBroker(broker) => {
                Self::new(code::SERVICE_NOT_AVAILABLE, format!("the broker {broker} is stopped"))
            }
            Refusal::Expired | Refusal::Unreadable(_) | Refusal::Abnormal => {
                Self::new(code::SYSTEM_ERROR, "there are no receipt handles in the remoting protocol")
            }
        }
    }
}
