//! What JavaScript hears: the kinds of events, as `lib/border.js` numbers them. [`memory::LARGE`](crate::memory::LARGE)
//! may be added to each that has a payload; flags are above it.

/// A server's connection is open. Payload: see `request.rs`. Flags: [`HOOKED`], the listener from bit 16.
pub const OPEN: i32 = 1;
/// A client's connection is open. Payload: subprotocol, extensions, then the answer's headers.
pub const CONNECTED: i32 = 2;
/// A text message. Payload: UTF-8.
pub const TEXT: i32 = 3;
/// A binary message.
pub const BINARY: i32 = 4;
/// A frame of a fragmented message. Flags: [`IS_TEXT`], [`IS_FIRST`], [`IS_LAST`].
pub const FRAGMENT: i32 = 5;
/// A ping; the pong is on its way.
pub const PING: i32 = 6;
/// A pong.
pub const PONG: i32 = 7;
/// The engine's drain.
pub const DRAIN: i32 = 8;
/// The last event of a connection. Flags: [`BY_PEER`], [`WAS_CLEAN`], the code from bit 16. Payload: see `handler.rs`.
pub const CLOSE: i32 = 9;
/// Something failed that belongs to a listener, whose number stands for the connection. Payload: see `handler.rs`.
pub const LISTENER_ERROR: i32 = 10;
/// How much waits on a connection that JavaScript watches; the amount stands for the offset.
pub const BUFFERED: i32 = 11;
/// Bytes that were sent as text are not UTF-8, and were not sent.
pub const NOT_UTF8: i32 = 12;

/// The engine closes a connection, because of its peer or of a limit; its Close is yet to come.
pub const CLOSING: i32 = 13;

/// The program's answer to a deferred request takes effect, with [`ANSWERED`], or it will have none. The listener's number
/// stands for the connection. Payload: the connection's number.
pub const DEFERRAL_ENDED: i32 = 14;

/// A record of the log. Flags: its level from bit 8, its topic from bit 16; the listener's number, or -1, stands for the
/// connection. Payload: UTF-8.
pub const RECORD: i32 = 18;

/// An answer takes effect.
pub const ANSWERED: i32 = 0x100;
/// A connection of a client that connects again has ended: as [`CLOSE`], but not the last event.
pub const LOST: i32 = 15;
/// A client waits, and then connects again. Payload: which attempt (32 bits), the delay in milliseconds (float, 64).
pub const RECONNECTING: i32 = 16;
/// A client connects no more: its last event. Payload: see `handler.rs`.
pub const GAVE_UP: i32 = 17;

/// The request was shown to JavaScript before.
pub const HOOKED: i32 = 0x100;
/// The message is text.
pub const IS_TEXT: i32 = 0x100;
/// The first frame of its message.
pub const IS_FIRST: i32 = 0x200;
/// The last frame of its message.
pub const IS_LAST: i32 = 0x400;
/// The peer began to close.
pub const BY_PEER: i32 = 0x100;
/// The closing handshake was completed, and nothing failed.
pub const WAS_CLEAN: i32 = 0x200;
