/// Limits that a server's configuration decides. The defaults are those of Apache RocketMQ 5.5.0.
///
/// What exceeds one is refused before it is sent. Raise a limit when your server was configured so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest topic name in bytes. Defaults to 127.
    pub(crate) max_topic_length: usize,
    /// Longest consumer group name in bytes. Defaults to 120.
    pub(crate) max_group_length: usize,
    /// Largest message body in bytes when the server announces none. Defaults to 4 MiB.
    pub(crate) max_body_size: usize,
    /// Largest sum of properties, tag and keys in bytes. Defaults to 16 KiB.
    pub(crate) max_properties_size: usize,
    /// Most user properties of one message. Defaults to 128.
    pub(crate) max_properties: usize,
    /// Longest message group in bytes. Defaults to 63.
    pub(crate) max_message_group_length: usize,
    /// Most messages of one receive. Defaults to 32: the broker refuses more.
    pub(crate) max_receive_batch: u32,
    /// Largest size of one message after decompression, in bytes. Defaults to 64 MiB.
    pub(crate) max_decompressed_size: usize,
    /// Largest gRPC message that is accepted, in bytes. Defaults to 130 MiB, as the server's own.
    pub(crate) max_frame_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_topic_length: 127,
            max_group_length: 120,
            max_body_size: 4 << 20,
            max_properties_size: 16 << 10,
            max_properties: 128,
            max_message_group_length: 63,
            max_receive_batch: 32,
            max_decompressed_size: 64 << 20,
            max_frame_size: 130 << 20,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        impl Limits {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $type) -> Self { self.$name = $name; self })*
        }
    };
}

setters! {
    /// Longest topic name in bytes. Defaults to 127.
    max_topic_length: usize,
    /// Longest consumer group name in bytes. Defaults to 120.
    max_group_length: usize,
    /// Largest message body in bytes when the server announces none. Defaults to 4 MiB.
    max_body_size: usize,
    /// Largest sum of user properties, tag and keys in bytes. Defaults to 16 KiB.
    max_properties_size: usize,
    /// Most user properties of one message. Defaults to 128.
    max_properties: usize,
    /// Longest message group in bytes. Defaults to 63.
    max_message_group_length: usize,
    /// Most messages of one receive. Defaults to 32: Apache's broker refuses more.
    max_receive_batch: u32,
    /// Largest body after decompression in bytes. Defaults to 64 MiB.
    max_decompressed_size: usize,
    /// Largest gRPC message accepted from the server, in bytes. Defaults to 130 MiB.
    max_frame_size: usize,
}
