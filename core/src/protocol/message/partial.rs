//! What a connection holds between two reads: a header that was cut, the frame whose payload arrives, the message that is put
//! together from frames.

use std::borrow::Cow;
use std::mem;

use super::{Assembly, Limits, Received, Violation, control, too_big, unmask_part, whole};
use crate::close;
use crate::error::{Figure, Limit};
use crate::protocol::deflate::{Inflater, Inflation};
use crate::protocol::frame::{self, FrameHeader, MAX_HEADER, OpCode, Role};

/// What a connection holds in the middle of a frame or message.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// A header that a read has cut: `header_length` bytes of it.
    pub(super) header: [u8; MAX_HEADER],
    pub(super) header_length: u8,
    /// The frame whose payload is arriving.
    pub(super) frame: Option<Frame>,
    /// The payload of a control frame that a read has cut.
    pub(super) control: Vec<u8>,
    /// The message whose frames are arriving.
    pub(super) message: Option<Assembly>,
    /// What the peer's next compressed message may refer to.
    pub(super) context: Option<Inflater>,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) received: u64,
}

impl Frame {
    /// Bytes of payload that have not come.
    pub(super) fn left(&self) -> u64 {
        self.header.length - self.received
    }
}

impl Partial {
    pub(super) fn is_needed(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.header_length > 0 || self.context.is_some()
    }

    /// The frame in progress, or the next one if its header ends in `input`; takes the header off.
    pub(super) fn next_frame(
        &mut self,
        input: &mut &mut [u8],
        role: Role,
        limits: &Limits,
        deflates: bool,
    ) -> Result<Option<Frame>, Violation> {
        if let Some(frame) = self.frame.take() {
            return Ok(Some(frame));
        }
        let held = usize::from(self.header_length);
        let taken = (MAX_HEADER - held).min(input.len());
        self.header[held..held + taken].copy_from_slice(&input[..taken]);
        let (header, used) = match frame::parse(&self.header[..held + taken], role, deflates)? {
            Some((header, length)) => {
                self.header_length = 0;
                // What was held did not make a header, so its end is in this input.
                (Some(header), length - held)
            }
            None => {
                self.header_length += taken as u8;
                (None, taken)
            }
        };
        *input = &mut mem::take(input)[used..];
        let Some(header) = header else { return Ok(None) };
        if !header.opcode.is_control() {
            self.begin_frame(&header, limits)?;
        }
        Ok(Some(Frame { header, received: 0 }))
    }

    /// The checks of a data frame that its header allows, before any memory is taken for it.
    fn begin_frame(&mut self, header: &FrameHeader, limits: &Limits) -> Result<(), Violation> {
        let message = match (&mut self.message, header.opcode) {
            (None, OpCode::Continuation) => {
                return Err(Violation::protocol(close::PROTOCOL_ERROR, "a continuation frame continues no message"));
            }
            (Some(message), OpCode::Continuation) => message,
            (Some(_), _) => {
                let message = "a new message begins inside a fragmented one";
                return Err(Violation::protocol(close::PROTOCOL_ERROR, message));
            }
            (None, opcode) => self.message.insert(Assembly::new(opcode == OpCode::Text, header.compressed)),
        };
        message.fragments = message.fragments.saturating_add(1);
        let fragments = message.fragments;
        if fragments > limits.max_fragments {
            let limit = Limit::new("max_fragments", Figure::Count(limits.max_fragments.into()));
            let message = format!("a message has more fragments than max_fragments ({})", limits.max_fragments);
            return Err(Violation::limit(close::POLICY, limit.reached(fragments.into()), message));
        }
        message.announced = message.announced.saturating_add(header.length);
        let most = if message.is_compressed { limits.largest_compressed() } else { limits.largest() };
        if message.announced > most {
            return Err(too_big(message.announced, limits));
        }
        Ok(())
    }

    /// Takes bytes of the payload, still masked.
    pub(super) fn take_payload<'b>(
        &mut self,
        frame: &mut Frame,
        bytes: &'b mut [u8],
        limits: &Limits,
        inflation: Option<&mut Inflation<'_>>,
    ) -> Result<Option<Received<'b>>, Violation> {
        let FrameHeader { fin, opcode, mask, length, .. } = frame.header;
        let left = length - frame.received;
        let is_whole = bytes.len() as u64 == length;
        let ends = bytes.len() as u64 == left;
        // Only the phase of the key is wanted, so the cut to usize does no harm.
        let phase = (frame.received % 4) as usize;
        frame.received += bytes.len() as u64;

        let Some(message) = self.message.as_mut().filter(|_| !opcode.is_control()) else {
            unmask_part(bytes, mask, phase);
            if is_whole {
                return control(opcode, Cow::Borrowed(bytes)).map(Some);
            }
            self.control.extend_from_slice(bytes);
            return if ends { control(opcode, Cow::Owned(mem::take(&mut self.control))).map(Some) } else { Ok(None) };
        };

        let is_fragmented = !fin || message.fragments > 1;
        if let Some(inflation) = inflation
            && message.is_compressed
        {
            unmask_part(bytes, mask, phase);
            let is_all = is_whole && !is_fragmented;
            let delivers = is_fragmented && limits.deliver_fragments;
            message.inflate(bytes, is_all, delivers, limits, inflation, &mut self.context)?;
            return if ends { self.end_compressed(fin, delivers, inflation) } else { Ok(None) };
        }
        if is_whole && !is_fragmented {
            // Only its header was cut.
            unmask_part(bytes, mask, phase);
            self.message = None;
            return whole(opcode, bytes).map(Some);
        }
        if is_fragmented && limits.deliver_fragments {
            unmask_part(bytes, mask, phase);
            let payload = message.take_fragment(bytes, is_whole, left, limits)?;
            if !ends {
                return Ok(None);
            }
            let (is_text, is_first) = (message.is_text, message.fragments == 1);
            if fin {
                message.utf8.finish()?;
                self.message = None;
            }
            return Ok(Some(Received::Fragment { is_text, is_first, is_last: fin, payload }));
        }
        let reserve_for = if fin { left } else { u64::MAX };
        message.append(bytes, mask, phase, reserve_for, limits)?;
        if !(ends && fin) {
            return Ok(None);
        }
        message.utf8.finish()?;
        Ok(self.message.take().map(|message| Received::Assembled(message.assembled)))
    }
}
