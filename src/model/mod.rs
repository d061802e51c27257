//! The vocabulary: plain data, no runtime.

mod carried;
mod checked;
mod checkpoint;
mod checkpoint_text;
mod credentials;
mod endpoint;
mod group;
mod held;
mod json;
mod limits;
mod message;
mod outbound;
mod properties;
mod pulled;
mod queue;
mod raw_properties;
mod route;
#[cfg(feature = "serde")]
mod serde;
mod settings;

pub use carried::{BodyDigest, BodyEncoding, DigestAlgorithm};
pub use checkpoint::{Checkpoint, OnOffsetGap, StartFrom, StopAt};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use group::{ConsumerGroup, Filter};
pub use limits::Limits;
pub use message::{Corruption, DeadLetterOrigin, Message, MessageType};
pub use outbound::OutboundMessage;
pub use properties::Properties;
pub use queue::{Epoch, MessageQueue, Offset, OffsetRange};

pub(crate) use checked::{check_group, check_namespace, check_topic};
pub(crate) use checkpoint_text::{
    VERSION as CHECKPOINT_VERSION, check_version, positions_from_json, positions_to_json,
};
pub(crate) use endpoint::{AccessPoint, Scheme};
pub(crate) use group::{FilterKind, Subscription};
pub(crate) use held::{Held, Place};
pub(crate) use json::{Json, Quoted};
pub(crate) use message::{MessageId, MessageParts};
pub(crate) use pulled::{Chunk, Record, Source, Span};
pub(crate) use raw_properties::{NAME_END, RawProperties, VALUE_END};
pub(crate) use route::{Permission, Route, RouteQueue};
pub(crate) use settings::{ClientKind, ClientSettings, RetrySchedule, ServerSettings};
