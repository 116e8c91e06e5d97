//! A message that is put together from what came of it: checked byte by byte, in memory that grows with what has come.

use std::borrow::Cow;
use std::mem;

use super::utf8::Utf8;
use super::{Assembled, BEHIND, DIRECT, Limits, Violation, unmask_part};
use crate::protocol::deflate::Inflater;

/// The message whose frames are arriving.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) is_text: bool,
    pub(super) fragments: u32,
    /// Bytes of all frames so far, as their headers say.
    pub(super) announced: u64,
    /// What has come; text without a character that is cut.
    pub(super) assembled: Assembled,
    /// What has come of the current frame, where fragments are delivered.
    pub(super) fragment: Vec<u8>,
    pub(super) utf8: Utf8,
    /// The last frame was received directly to its end.
    pub(super) is_complete: bool,
    pub(super) is_compressed: bool,
    /// Of a compressed message that has begun to come.
    pub(super) inflater: Option<Inflater>,
    /// What earlier fragments of it that were delivered have inflated to.
    pub(super) delivered: u64,
}

impl Assembly {
    pub(super) fn new(is_text: bool, is_compressed: bool) -> Self {
        let is_string = is_text && !is_compressed;
        let assembled = if is_string { Assembled::Text(String::new()) } else { Assembled::Binary(Vec::new()) };
        Self {
            is_text,
            fragments: 0,
            announced: 0,
            assembled,
            fragment: Vec::new(),
            utf8: Utf8::default(),
            is_complete: false,
            is_compressed,
            inflater: None,
            delivered: 0,
        }
    }

    /// Unmasks, checks and copies block by block, so that each step finds the block in the processor's nearest cache, and
    /// small enough for a copy by vector registers: larger ones are made by `rep movs`, which is slow to begin.
    pub(super) fn append(
        &mut self,
        bytes: &mut [u8],
        mask: Option<[u8; 4]>,
        phase: usize,
        expected: u64,
        limits: &Limits,
    ) -> Result<(), Violation> {
        // A multiple of 4: each block begins at the same phase of the key.
        const BLOCK: usize = 2 * 1024;
        match &mut self.assembled {
            Assembled::Binary(assembled) => {
                let wanted = room(assembled.len(), assembled.capacity(), bytes.len(), expected, limits);
                // The rest of a large message is received directly, with something behind it.
                assembled.reserve_exact(if wanted as u64 > DIRECT { wanted + BEHIND } else { wanted });
                for block in bytes.chunks_mut(BLOCK) {
                    unmask_part(block, mask, phase);
                    assembled.extend_from_slice(block);
                }
            }
            Assembled::Text(text) => {
                let arriving = bytes.len() + self.utf8.held();
                let expected = expected.saturating_add(self.utf8.held() as u64);
                text.reserve_exact(room(text.len(), text.capacity(), arriving, expected, limits));
                for block in bytes.chunks_mut(BLOCK) {
                    unmask_part(block, mask, phase);
                    let (completed, characters) = self.utf8.check(block)?;
                    text.extend(completed);
                    text.push_str(characters);
                }
            }
        }
        Ok(())
    }

    /// The payload of a frame to be delivered: lent if it is there whole, else collected; empty until it ends.
    pub(super) fn take_fragment<'b>(
        &mut self,
        bytes: &'b [u8],
        is_whole: bool,
        left: u64,
        limits: &Limits,
    ) -> Result<Cow<'b, [u8]>, Violation> {
        if self.is_text {
            self.utf8.check(bytes)?;
        }
        if is_whole {
            return Ok(Cow::Borrowed(bytes));
        }
        let fragment = &mut self.fragment;
        fragment.reserve_exact(room(fragment.len(), fragment.capacity(), bytes.len(), left, limits));
        fragment.extend_from_slice(bytes);
        Ok(Cow::Owned(if bytes.len() as u64 == left { mem::take(fragment) } else { Vec::new() }))
    }
}

/// How much to reserve beyond `held` bytes when `arriving` ones have come and `expected` may follow, these included:
/// nothing if there is room, else four times what has come, so that copying is rare and memory grows with what has come,
/// and never more than is expected or allowed.
fn room(held: usize, capacity: usize, arriving: usize, expected: u64, limits: &Limits) -> usize {
    if capacity - held >= arriving {
        return 0;
    }
    let ceiling = expected.min(limits.largest().saturating_sub(held as u64));
    let growth = arriving.saturating_mul(4).saturating_add(held.saturating_mul(3)).max(64);
    usize::try_from(ceiling).unwrap_or(usize::MAX).min(growth).max(arriving)
}
