//! The memory that both sides of the border use: JavaScript owns it, and the engine writes events into it and reads
//! commands from it, so that one call crosses the border for many of either.
//!
//! `lib/border.js` is the other half of this file: the numbers here and there are the same.

use napi::bindgen_prelude::{JsObjectValue, JsValue, Object, Unknown};
use napi::sys;

/// Numbers of an event or a command: kind, connection, offset or length, length or extra.
pub const ENTRY: usize = 4;

// Places in `control`.
const OUT_COUNT: usize = 0;
const OUT_BYTES: usize = 1;
const IN_COUNT: usize = 2;
const IN_CURSOR: usize = 3;
const IN_BYTES: usize = 4;
const CONTROL: usize = 5;

/// Added to the kind of an event whose payload is an element of `large` instead of bytes in the slab.
pub const LARGE: i32 = 0x80;

/// An array that JavaScript owns, by its address.
#[derive(Clone, Copy)]
struct Shared<T> {
    start: *mut T,
    length: usize,
}

impl<T: Copy> Shared<T> {
    /// The elements of a typed array.
    fn of(memory: &Object<'_>, name: &str) -> napi::Result<Self> {
        let value = memory.get_named_property::<Unknown<'_>>(name)?;
        let (mut kind, mut length, mut start) = (0, 0, std::ptr::null_mut());
        // SAFETY: the value belongs to this environment; outputs that are not asked for may be null.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                memory.value().env,
                value.raw(),
                &mut kind,
                &mut length,
                &mut start,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        let width = match kind {
            sys::TypedarrayType::uint8_array => 1,
            sys::TypedarrayType::int32_array => 4,
            _ => 0,
        };
        if status != sys::Status::napi_ok || width != size_of::<T>() {
            return Err(napi::Error::from_reason(format!("{name} is not the typed array it must be")));
        }
        Ok(Self { start: start.cast(), length })
    }

    fn put(self, at: usize, value: T) {
        assert!(at < self.length);
        // SAFETY: in bounds; the array lives as long as the `Memory`, and JavaScript does not run meanwhile.
        unsafe { self.start.add(at).write(value) }
    }

    fn at(self, at: usize) -> T {
        assert!(at < self.length);
        // SAFETY: as in `put`.
        unsafe { self.start.add(at).read() }
    }
}

/// The arrays. Whoever has this keeps a reference to the object that they belong to.
pub struct Memory {
    control: Shared<i32>,
    in_index: Shared<i32>,
    in_slab: Shared<u8>,
    out_index: Shared<i32>,
    out_slab: Shared<u8>,
}

/// Something for JavaScript to do: what a connection's number means is the business of `connections.rs`.
#[derive(Clone, Copy)]
pub struct Event {
    pub kind: i32,
    pub index: i32,
    pub at: i32,
    pub length: i32,
}

/// Something that JavaScript sends.
pub struct Command<'m> {
    pub kind: i32,
    pub index: i32,
    pub extra: i32,
    pub payload: &'m [u8],
}

impl Memory {
    /// The arrays of an object that `lib/border.js` made.
    pub fn of(memory: &Object<'_>) -> napi::Result<Self> {
        let arrays = Self {
            control: Shared::of(memory, "control")?,
            in_index: Shared::of(memory, "inIndex")?,
            in_slab: Shared::of(memory, "inSlab")?,
            out_index: Shared::of(memory, "outIndex")?,
            out_slab: Shared::of(memory, "outSlab")?,
        };
        if arrays.control.length < CONTROL {
            return Err(napi::Error::from_reason("control is too short"));
        }
        Ok(arrays)
    }

    /// Whether an event with so many bytes fits behind what is there.
    pub fn has_room(&self, events: usize, used: usize, bytes: usize) -> bool {
        (events + 1) * ENTRY <= self.in_index.length && bytes <= self.in_slab.length.saturating_sub(used)
    }

    /// Writes the event of this number.
    pub fn put_event(&self, number: usize, event: Event) {
        let at = number * ENTRY;
        self.in_index.put(at, event.kind);
        self.in_index.put(at + 1, event.index);
        self.in_index.put(at + 2, event.at);
        self.in_index.put(at + 3, event.length);
    }

    /// Copies a payload to an offset of the slab, where `has_room` said that it fits.
    pub fn put_payload(&self, at: usize, payload: &[u8]) {
        assert!(payload.len() <= self.in_slab.length.saturating_sub(at));
        // SAFETY: in bounds; a payload is never in the slab of events, which only this function writes.
        unsafe { self.in_slab.start.add(at).copy_from_nonoverlapping(payload.as_ptr(), payload.len()) }
    }

    /// Tells JavaScript how many events there are, from the first, and how many bytes they have in the slab.
    pub fn offer(&self, events: usize, bytes: usize) {
        self.control.put(IN_BYTES, bytes as i32);
        self.control.put(IN_COUNT, events as i32);
        self.control.put(IN_CURSOR, 0);
    }

    /// How many of the events JavaScript has begun with.
    pub fn begun(&self) -> usize {
        self.control.at(IN_CURSOR).max(0) as usize
    }

    /// Whether JavaScript has sent something.
    #[inline]
    pub fn has_commands(&self) -> bool {
        self.control.at(OUT_COUNT) != 0
    }

    /// Takes what JavaScript has sent, in its order. `take` must not let JavaScript run.
    pub fn take_commands(&self, mut take: impl FnMut(Command<'_>)) {
        let count = self.control.at(OUT_COUNT).max(0) as usize;
        let mut from = 0;
        for number in 0..count.min(self.out_index.length / ENTRY) {
            let at = number * ENTRY;
            let length = self.out_index.at(at + 2).max(0) as usize;
            let length = length.min(self.out_slab.length.saturating_sub(from));
            // SAFETY: in bounds; JavaScript, the only writer of this slab, does not run before `take` returns.
            let payload = unsafe { std::slice::from_raw_parts(self.out_slab.start.add(from), length) };
            from += length;
            take(Command {
                kind: self.out_index.at(at),
                index: self.out_index.at(at + 1),
                extra: self.out_index.at(at + 3),
                payload,
            });
        }
        self.control.put(OUT_COUNT, 0);
        self.control.put(OUT_BYTES, 0);
    }
}
