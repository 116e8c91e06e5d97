//! What JavaScript sends without crossing the border: the kinds of commands, as `lib/border.js` numbers them.

/// Added to the kind where the payload is text.
pub const TEXT: i32 = 0x100;
/// To the subscribers of a topic but the connection of the index (negative: all). Payload: the topic, in as many bytes
/// as `extra` says, and the message.
pub const PUBLISH: i32 = 2;
/// To the connections of the listener in `extra` but the connection of the index (negative: all).
pub const BROADCAST: i32 = 3;
// Any other kind is a message for one connection.
