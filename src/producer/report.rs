use crate::error::SendError;
use crate::model::OutboundMessage;
use crate::producer::parcel::into_one;
use crate::{Error, Result};

/// What a producer had not finished when it was shut down.
#[derive(Debug, Default)]
#[must_use = "it tells which messages were not sent"]
pub struct ProducerReport {
    pub(crate) unanswered: usize,
    pub(crate) untold: Vec<SendError>,
}

impl ProducerReport {
    /// How many accepted messages the broker had not answered for when the deadline was over. Whoever awaits one of them is
    /// told; whether the server has it is not known.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether every accepted message was answered for, and every failure was told to someone.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unanswered == 0 && self.untold.is_empty()
    }

    /// Failures that nobody was told of, because the sink or the future that the message was given to was dropped.
    #[must_use]
    pub fn untold(&self) -> &[SendError] {
        &self.untold
    }

    /// The messages of [`untold`](Self::untold), to send them elsewhere.
    #[must_use]
    pub fn into_unsent(self) -> Vec<OutboundMessage> {
        self.untold.into_iter().map(SendError::into_message).collect()
    }

    /// The report as a result, for those who want `?` to stop at an unclean end.
    ///
    /// # Errors
    /// The first failure nobody was told of, with [the messages](Error::into_unsent); `Timeout` when messages are unanswered.
    pub fn into_result(self) -> Result<()> {
        if let Some(error) = into_one(self.untold) {
            return Err(error);
        }
        if self.unanswered > 0 {
            let text = format!("{} messages were not answered for before the producer was shut down", self.unanswered);
            return Err(Error::new(crate::ErrorKind::Timeout, text));
        }
        Ok(())
    }
}
