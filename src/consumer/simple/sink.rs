use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use crate::consumer::simple::events::{Event, Hub};
use crate::error::{AckError, Error, Result};
use crate::lease::{Receipt, Settled};

/// Acks whose answers are awaited at most; the keeper sends 64 at a time.
const IN_FLIGHT: usize = 1024;

/// A sink that acknowledges receipts: `deliveries.map_ok(|d| d.into_parts().1).forward(control.ack_sink())`.
///
/// An item is queued when it is accepted; dropping the sink takes nothing back. Flush and close wait until the server has
/// answered for every receipt this sink accepted. A lease that was lost meanwhile is no error of the pipeline: the message
/// is delivered again; it is counted, and reported as [`Event::NotAcked`]. Only a shutdown of the consumer ends the sink.
///
/// It takes receipts of any consumer.
#[must_use = "sinks do nothing unless polled"]
pub struct AckSink {
    waiting: VecDeque<Settled>,
    hub: Arc<Hub>,
    not_acked: u64,
}

impl AckSink {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { waiting: VecDeque::new(), hub, not_acked: 0 }
    }

    /// How many receipts of this sink were not settled; their messages are delivered again.
    #[must_use]
    pub fn not_acked(&self) -> u64 {
        self.not_acked
    }

    /// Looks at answers until at most `left` are awaited.
    fn poll_answers(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<()>> {
        while self.waiting.len() > left {
            let Some(first) = self.waiting.front_mut() else { break };
            let answer = ready!(Pin::new(first).poll(cx));
            self.waiting.pop_front();
            match answer {
                Ok(()) => {}
                Err(AckError::Closed) => return Poll::Ready(Err(Error::closed("consumer"))),
                Err(error) => {
                    self.not_acked += 1;
                    self.hub.publish(&Event::NotAcked(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Receipt> for AckSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_answers(cx, IN_FLIGHT - 1)
    }

    fn start_send(self: Pin<&mut Self>, receipt: Receipt) -> Result<()> {
        self.get_mut().waiting.push_back(receipt.ack());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_answers(cx, 0)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

impl fmt::Debug for AckSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckSink").field("waiting", &self.waiting.len()).field("not_acked", &self.not_acked).finish()
    }
}
