//! The callback table, what its functions are given, and the handler that calls them.

use std::ffi::{CString, c_char, c_void};
use std::mem::{MaybeUninit, size_of};
use std::sync::Arc;
use std::time::Duration;

use wsx_core::{
    Client, Close, Connection, Error, Failure, FailureKind, Figure, Fragment, GiveUp, Handler, Listener, Message,
    Opening, Reconnecting, Request, Response, Result, Side, Stage,
};

use crate::boundary::{User, c_text, invalid};
use crate::client::{wsx_client, wsx_give_up, wsx_reconnecting};
use crate::request::{wsx_opening, wsx_request};
use crate::response::wsx_response;
use crate::status::{WSX_BINARY, WSX_TEXT};

/// A connection's number. It is never reused for another connection and needs no freeing: once the connection is gone,
/// calls answer WSX_ERR_CLOSED. 0 is never a connection.
pub type wsx_connection = u64;
/// A listener's number, made like a connection's.
pub type wsx_listener = u64;
/// A timer's number.
pub type wsx_timer = u64;

/// A function of the program with its own pointer.
pub type wsx_function = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// It failed while the host name was looked up.
pub const WSX_STAGE_RESOLVE: i32 = 1;
/// It failed while the transport was opened or accepted.
pub const WSX_STAGE_CONNECT: i32 = 2;
/// It failed in the TLS handshake, or TLS itself failed before the connection was open.
pub const WSX_STAGE_TLS: i32 = 3;
/// It failed in the HTTP part of the opening handshake, or in a plain HTTP answer.
pub const WSX_STAGE_HTTP: i32 = 4;
/// It failed while open or closing.
pub const WSX_STAGE_WEBSOCKET: i32 = 5;
/// It failed at a client's proxy, before its tunnel to the server was open; http_status is the proxy's.
pub const WSX_STAGE_PROXY: i32 = 6;

/// The peer broke the protocol.
pub const WSX_FAILURE_PROTOCOL: i32 = 1;
/// The peer answered, but not with what was asked for: http_status says more.
pub const WSX_FAILURE_REFUSED: i32 = 2;
/// A limit of the options was exceeded.
pub const WSX_FAILURE_LIMIT: i32 = 3;
/// A timeout of the options ran out.
pub const WSX_FAILURE_TIMEOUT: i32 = 4;
/// The system reported an error, or the peer's end vanished.
pub const WSX_FAILURE_TRANSPORT: i32 = 5;
/// The loop was shut down or freed.
pub const WSX_FAILURE_SHUTDOWN: i32 = 6;
/// A callback failed.
pub const WSX_FAILURE_CALLBACK: i32 = 7;

/// A limit counts bytes.
pub const WSX_UNIT_BYTES: i32 = 1;
/// A limit counts things, as fragments or headers.
pub const WSX_UNIT_COUNT: i32 = 2;
/// A timeout, in milliseconds.
pub const WSX_UNIT_MILLISECONDS: i32 = 3;

/// This end of a connection.
pub const WSX_SIDE_US: i32 = 0;
/// The other end of a connection.
pub const WSX_SIDE_PEER: i32 = 1;

/// Normal closure: the purpose is fulfilled.
pub const WSX_CLOSE_NORMAL: u16 = 1000;
/// A server shuts down, a page is left.
pub const WSX_CLOSE_GOING_AWAY: u16 = 1001;
/// Protocol error.
pub const WSX_CLOSE_PROTOCOL_ERROR: u16 = 1002;
/// Unsupported kind of message.
pub const WSX_CLOSE_UNSUPPORTED: u16 = 1003;
/// Never sent: the peer's close had no code. Given to wsx_close(): a close without a code.
pub const WSX_CLOSE_NO_STATUS: u16 = 1005;
/// Never sent: the connection ended without a close.
pub const WSX_CLOSE_ABNORMAL: u16 = 1006;
/// A payload does not fit its kind, as text that is not UTF-8.
pub const WSX_CLOSE_INVALID_PAYLOAD: u16 = 1007;
/// Policy violation.
pub const WSX_CLOSE_POLICY: u16 = 1008;
/// Message too big.
pub const WSX_CLOSE_TOO_BIG: u16 = 1009;
/// A client misses an extension.
pub const WSX_CLOSE_MANDATORY_EXTENSION: u16 = 1010;
/// Internal error.
pub const WSX_CLOSE_INTERNAL_ERROR: u16 = 1011;
/// The service restarts.
pub const WSX_CLOSE_SERVICE_RESTART: u16 = 1012;
/// The peer does not read fast enough, or the service is overloaded.
pub const WSX_CLOSE_TRY_AGAIN_LATER: u16 = 1013;

// cbindgen wants the figures themselves.
const _: () = {
    use wsx_core::close;
    assert!(WSX_CLOSE_NORMAL == close::NORMAL && WSX_CLOSE_GOING_AWAY == close::GOING_AWAY);
    assert!(WSX_CLOSE_PROTOCOL_ERROR == close::PROTOCOL_ERROR && WSX_CLOSE_UNSUPPORTED == close::UNSUPPORTED);
    assert!(WSX_CLOSE_NO_STATUS == close::NO_STATUS && WSX_CLOSE_ABNORMAL == close::ABNORMAL);
    assert!(WSX_CLOSE_INVALID_PAYLOAD == close::INVALID_PAYLOAD && WSX_CLOSE_POLICY == close::POLICY);
    assert!(WSX_CLOSE_TOO_BIG == close::TOO_BIG && WSX_CLOSE_MANDATORY_EXTENSION == close::MANDATORY_EXTENSION);
    assert!(WSX_CLOSE_INTERNAL_ERROR == close::INTERNAL_ERROR);
    assert!(WSX_CLOSE_SERVICE_RESTART == close::SERVICE_RESTART);
    assert!(WSX_CLOSE_TRY_AGAIN_LATER == close::TRY_AGAIN_LATER);
};

/// What went wrong: told by on_error and on_listener_error, and again with the close. Borrowed until the callback
/// returns.
#[repr(C)]
pub struct wsx_failure {
    /// Size of this struct in the library that runs: what lies beyond it is not there.
    pub size: usize,
    /// How far the connection had come: a WSX_STAGE_ constant.
    pub stage: i32,
    /// What kind of thing went wrong: a WSX_FAILURE_ constant. New kinds may come.
    pub kind: i32,
    /// The system's errno; 0 where it reported none.
    pub os_error: i32,
    /// The HTTP status the peer answered; 0 where it did not.
    pub http_status: i32,
    /// One sentence for people, with a NUL at its end: what happened and, where there is something, what to do about
    /// it.
    pub message: *const c_char,
    /// Bytes of the message, without the NUL.
    pub message_length: usize,
    /// The option whose limit or timeout struck, by the name that its setter has behind wsx_options_set_, with a NUL at its
    /// end: "max_message". "tls_handshake_message" is none of them but fixed, 64 KiB. NULL where none struck: it is there
    /// exactly if the kind is WSX_FAILURE_LIMIT or WSX_FAILURE_TIMEOUT.
    pub limit_option: *const c_char,
    /// What that option is set to.
    pub limit: u64,
    /// What was reached, in the same unit, where that is known: for max_message the bytes that the frames so far have
    /// announced, for backlog_limit those that waited. Else 0, as for all timeouts.
    pub limit_reached: u64,
    /// Their unit: a WSX_UNIT_ constant; 0 where no limit struck. New units may come.
    pub limit_unit: i32,
}

/// How a connection ended: told by on_close. Borrowed until the callback returns.
#[repr(C)]
pub struct wsx_close_info {
    /// Size of this struct in the library that runs: what lies beyond it is not there.
    pub size: usize,
    /// The code: the peer's where the peer began, ours where we did; 1005 where the peer's close had none, 1006 where
    /// there was no close.
    pub code: u16,
    /// The closing handshake was completed and nothing failed.
    pub was_clean: bool,
    /// Who began: WSX_SIDE_US or WSX_SIDE_PEER.
    pub by: i32,
    /// The reason that came with the code: UTF-8, at most 123 bytes, empty where there was none, with a NUL at its end.
    pub reason: *const c_char,
    /// Bytes of the reason, without the NUL.
    pub reason_length: usize,
    /// What failed; NULL exactly if a side closed in order, or the program called wsx_terminate().
    pub failure: *const wsx_failure,
    /// Messages that were accepted for sending and then lost: dropped by policy, or taken from another thread and
    /// refused on the loop.
    pub lost_messages: u32,
    /// Bytes sent by the program that did not reach the kernel.
    pub unsent_bytes: u64,
    /// All of it as one sentence for a log, with a NUL at its end.
    pub text: *const c_char,
    /// Messages that the program sent and that did not wholly reach the kernel: those that waited when the connection
    /// ended, one that was under way in part, and the lost_messages. Over TLS up to 64 KiB of what was being written count
    /// as well, of which the kernel may have taken a part. What reached the kernel may have been lost on its way, which
    /// only an answer of the peer's program can tell. Of an HTTP stream only the writes that were lost are counted.
    pub undelivered_messages: u64,
}

/// The callbacks of a listener or of a client connection. Any may be NULL: on_request then accepts, the others ignore.
///
/// Set size to sizeof(wsx_callbacks) and what is not used to NULL; the table is copied where it is registered. All
/// callbacks run on the loop's thread, one at a time, and never inside another call; on a loop with several threads
/// that holds for each of them, and those of one connection always run on the same. They may call everything but
/// wsx_loop_run, _turn, _flush, _next_timeout and _free, and must return: no longjmp, no C++ exception. The pointers
/// they are given are borrowed until they return; payloads are not NUL-terminated, and are never NULL. Each gets the
/// user pointer of its registration.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsx_callbacks {
    /// sizeof(wsx_callbacks), by which the table can grow.
    pub size: usize,
    /// Server: an HTTP request has come, and passed the options (origin, path). The response is "accept" until the
    /// callback makes it another; accepting a request that is not for a WebSocket answers 426.
    pub on_request:
        Option<unsafe extern "C" fn(request: *const wsx_request<'_>, response: *mut wsx_response, user: *mut c_void)>,
    /// The connection is open. Exactly one on_close will follow.
    pub on_open:
        Option<unsafe extern "C" fn(connection: wsx_connection, opening: *const wsx_opening<'_>, user: *mut c_void)>,
    /// A whole message has come. The kind is WSX_TEXT (always valid UTF-8) or WSX_BINARY.
    pub on_message: Option<
        unsafe extern "C" fn(
            connection: wsx_connection,
            kind: i32,
            payload: *const u8,
            length: usize,
            user: *mut c_void,
        ),
    >,
    /// A frame of a fragmented message has come, where the options ask for fragments. Text may be cut inside a
    /// character.
    pub on_fragment: Option<
        unsafe extern "C" fn(
            connection: wsx_connection,
            kind: i32,
            payload: *const u8,
            length: usize,
            is_first: bool,
            is_last: bool,
            user: *mut c_void,
        ),
    >,
    /// A ping has come; it is answered already.
    pub on_ping:
        Option<unsafe extern "C" fn(connection: wsx_connection, payload: *const u8, length: usize, user: *mut c_void)>,
    /// A pong has come, asked for or not; wsx_latency() tells how long it took, where it answers a ping of the program's.
    /// Answers to the heartbeat's own pings are not told.
    pub on_pong:
        Option<unsafe extern "C" fn(connection: wsx_connection, payload: *const u8, length: usize, user: *mut c_void)>,
    /// The backlog, having been over half of its limit or having cost a message, is below a quarter of it again.
    pub on_drain: Option<unsafe extern "C" fn(connection: wsx_connection, user: *mut c_void)>,
    /// The connection failed; its on_close is the next and last event. Failed connects are told here too.
    pub on_error:
        Option<unsafe extern "C" fn(connection: wsx_connection, failure: *const wsx_failure, user: *mut c_void)>,
    /// The connection is gone: the last event of each connection, exactly once.
    pub on_close:
        Option<unsafe extern "C" fn(connection: wsx_connection, close: *const wsx_close_info, user: *mut c_void)>,
    /// Something failed that belongs to no announced connection: accepting (out of descriptors, say; it is retried), or
    /// an answer of on_request that could not be sent.
    pub on_listener_error:
        Option<unsafe extern "C" fn(listener: wsx_listener, failure: *const wsx_failure, user: *mut c_void)>,
    /// The user pointer is no longer needed: called exactly once, after the last callback, or before the registering
    /// call returns with an error. It must not call the library.
    pub drop: wsx_function,
    /// A request that was deferred waits no more: its answer takes effect now, or it will have none, for the client left,
    /// the timeout ran out or the loop ends. Told once for each, before its on_open. For what is kept for the request
    /// meanwhile, as a lookup that can be given up.
    pub after_deferral: Option<unsafe extern "C" fn(connection: wsx_connection, is_answered: bool, user: *mut c_void)>,
    /// A client that connects again is about to wait, and then to make its next attempt: told after the on_close of the
    /// attempt before.
    pub on_reconnecting:
        Option<unsafe extern "C" fn(client: wsx_client, reconnecting: *const wsx_reconnecting, user: *mut c_void)>,
    /// A client that connects again does so no more: its last event, exactly once.
    pub on_give_up: Option<unsafe extern "C" fn(client: wsx_client, give_up: *const wsx_give_up, user: *mut c_void)>,
}

impl wsx_callbacks {
    /// Copies the program's table, which may be an older and shorter one, or a newer and longer one.
    ///
    /// # Safety
    /// NULL, or a table that is as long as its first field says.
    pub unsafe fn read(pointer: *const Self) -> Result<Self> {
        const LARGEST: usize = 4096;
        if pointer.is_null() {
            return Err(invalid("callbacks is NULL"));
        }
        // SAFETY: not NULL, and every table has this field.
        let size = unsafe { (&raw const (*pointer).size).read() };
        if !(size_of::<usize>()..=LARGEST).contains(&size) {
            return Err(invalid(format!("callbacks->size is {size}: set it to sizeof(wsx_callbacks)")));
        }
        // SAFETY: `size` bytes are the program's table.
        let theirs = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) };
        let known = size.min(size_of::<Self>());
        if theirs[known..].iter().any(|byte| *byte != 0) {
            return Err(Error::Unsupported("such a callback: the program was made for a newer libwsx"));
        }
        let mut table = MaybeUninit::<Self>::zeroed();
        // SAFETY: `known` bytes fit both. Zeros are a valid table, where every function is NULL, and so is a prefix of
        // the program's.
        unsafe {
            table.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(theirs.as_ptr(), known);
            Ok(table.assume_init())
        }
    }
}

/// The handler that calls a program's table.
#[derive(Clone)]
pub struct Callbacks {
    table: wsx_callbacks,
    user: Arc<User>,
}

impl Callbacks {
    /// # Safety
    /// That of [`wsx_callbacks::read`].
    pub unsafe fn new(table: *const wsx_callbacks, user: *mut c_void) -> Result<Box<Self>> {
        // SAFETY: the caller's.
        let table = unsafe { wsx_callbacks::read(table) }?;
        Ok(Box::new(Self { user: Arc::new(User { pointer: user, drop: table.drop }), table }))
    }
}

fn kind(is_text: bool) -> i32 {
    if is_text { WSX_TEXT } else { WSX_BINARY }
}

// SAFETY (of every call below): the program registered the function for this signature and this user pointer, and what
// is given is valid until the call returns.
impl Handler for Callbacks {
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        let Some(call) = self.table.on_request else { return Response::accept() };
        let mut response = wsx_response::default();
        // SAFETY: see the impl.
        unsafe { call(&wsx_request::new(request), &mut response, self.user.pointer) };
        response.finish()
    }

    fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {
        let Some(call) = self.table.on_open else { return };
        // SAFETY: see the impl.
        unsafe { call(connection.id(), &wsx_opening::new(opening), self.user.pointer) };
    }

    fn after_deferral(&mut self, connection: Connection, is_answered: bool) {
        let Some(call) = self.table.after_deferral else { return };
        // SAFETY: see the impl.
        unsafe { call(connection.id(), is_answered, self.user.pointer) };
    }

    #[inline]
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        let Some(call) = self.table.on_message else { return };
        let payload = message.payload();
        // SAFETY: see the impl.
        unsafe { call(connection.id(), kind(message.is_text()), payload.as_ptr(), payload.len(), self.user.pointer) };
    }

    fn on_fragment(&mut self, connection: Connection, fragment: Fragment<'_>) {
        let Some(call) = self.table.on_fragment else { return };
        let Fragment { payload, is_text, is_first, is_last } = fragment;
        let (pointer, length) = (payload.as_ptr(), payload.len());
        // SAFETY: see the impl.
        unsafe { call(connection.id(), kind(is_text), pointer, length, is_first, is_last, self.user.pointer) };
    }

    fn on_ping(&mut self, connection: Connection, payload: &[u8]) {
        let Some(call) = self.table.on_ping else { return };
        // SAFETY: see the impl.
        unsafe { call(connection.id(), payload.as_ptr(), payload.len(), self.user.pointer) };
    }

    fn on_pong(&mut self, connection: Connection, payload: &[u8], _: Option<Duration>) {
        let Some(call) = self.table.on_pong else { return };
        // SAFETY: see the impl.
        unsafe { call(connection.id(), payload.as_ptr(), payload.len(), self.user.pointer) };
    }

    fn on_drain(&mut self, connection: Connection) {
        let Some(call) = self.table.on_drain else { return };
        // SAFETY: see the impl.
        unsafe { call(connection.id(), self.user.pointer) };
    }

    fn on_error(&mut self, connection: Connection, failure: &Failure) {
        let Some(call) = self.table.on_error else { return };
        let texts = FailureTexts::new(failure);
        // SAFETY: see the impl.
        unsafe { call(connection.id(), &wsx_failure::new(failure, &texts), self.user.pointer) };
    }

    fn on_close(&mut self, connection: Connection, close: &Close<'_>) {
        let Some(call) = self.table.on_close else { return };
        // SAFETY: see the impl.
        wsx_close_info::with(close, |info| unsafe { call(connection.id(), info, self.user.pointer) });
    }

    fn on_reconnecting(&mut self, client: Client, reconnecting: &Reconnecting<'_>) {
        let Some(call) = self.table.on_reconnecting else { return };
        wsx_close_info::with(reconnecting.cause, |cause| {
            // SAFETY: see the impl.
            unsafe { call(client.id(), &wsx_reconnecting::new(reconnecting, cause), self.user.pointer) }
        });
    }

    fn on_give_up(&mut self, client: Client, give_up: &GiveUp) {
        let Some(call) = self.table.on_give_up else { return };
        // SAFETY: see the impl.
        wsx_give_up::with(give_up, |give_up| unsafe { call(client.id(), give_up, self.user.pointer) });
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }

    fn on_listener_error(&mut self, listener: Listener, failure: &Failure) {
        let Some(call) = self.table.on_listener_error else { return };
        let texts = FailureTexts::new(failure);
        // SAFETY: see the impl.
        unsafe { call(listener.id(), &wsx_failure::new(failure, &texts), self.user.pointer) };
    }
}

impl wsx_close_info {
    /// Hands it, with its texts, to `call`.
    fn with(close: &Close<'_>, call: impl FnOnce(&Self)) {
        let texts = close.failure.map(FailureTexts::new).unwrap_or_default();
        let failure = close.failure.map(|failure| wsx_failure::new(failure, &texts));
        let text = c_text(close.to_string());
        // A reason may have a NUL inside: the length tells.
        let reason = [close.reason.as_bytes(), b"\0"].concat();
        call(&Self {
            size: size_of::<Self>(),
            code: close.code,
            was_clean: close.was_clean,
            by: match close.by {
                Side::Us => WSX_SIDE_US,
                Side::Peer => WSX_SIDE_PEER,
            },
            reason: reason.as_ptr().cast(),
            reason_length: close.reason.len(),
            failure: failure.as_ref().map_or(std::ptr::null(), |failure| failure),
            lost_messages: close.lost_messages,
            unsent_bytes: close.unsent_bytes,
            text: text.as_ptr(),
            undelivered_messages: close.undelivered_messages,
        });
    }
}

/// What the pointers of a [`wsx_failure`] point to.
#[derive(Default)]
struct FailureTexts {
    message: CString,
    option: Option<CString>,
}

impl FailureTexts {
    fn new(failure: &Failure) -> Self {
        Self { message: c_text(failure.message.as_ref()), option: failure.limit.map(|limit| c_text(limit.option)) }
    }
}

pub(crate) fn stage(stage: Stage) -> i32 {
    match stage {
        Stage::Resolve => WSX_STAGE_RESOLVE,
        Stage::Connect => WSX_STAGE_CONNECT,
        Stage::Proxy => WSX_STAGE_PROXY,
        Stage::Tls => WSX_STAGE_TLS,
        Stage::Http => WSX_STAGE_HTTP,
        Stage::WebSocket => WSX_STAGE_WEBSOCKET,
        _ => 0,
    }
}

pub(crate) fn failure_kind(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::Protocol => WSX_FAILURE_PROTOCOL,
        FailureKind::Refused => WSX_FAILURE_REFUSED,
        FailureKind::Limit => WSX_FAILURE_LIMIT,
        FailureKind::Timeout => WSX_FAILURE_TIMEOUT,
        FailureKind::Transport => WSX_FAILURE_TRANSPORT,
        FailureKind::Shutdown => WSX_FAILURE_SHUTDOWN,
        FailureKind::Callback => WSX_FAILURE_CALLBACK,
        _ => 0,
    }
}

impl wsx_failure {
    fn new(failure: &Failure, texts: &FailureTexts) -> Self {
        let (limit_unit, limit) = match failure.limit.map(|limit| limit.figure) {
            None => (0, 0),
            Some(Figure::Bytes(bytes)) => (WSX_UNIT_BYTES, bytes),
            Some(Figure::Count(count)) => (WSX_UNIT_COUNT, count),
            Some(Figure::Time(time)) => (WSX_UNIT_MILLISECONDS, time.as_millis().try_into().unwrap_or(u64::MAX)),
            // One of a newer engine.
            Some(_) => (0, 0),
        };
        Self {
            size: size_of::<Self>(),
            stage: stage(failure.stage),
            kind: failure_kind(failure.kind),
            os_error: failure.os_error.unwrap_or(0),
            http_status: failure.http_status.map_or(0, i32::from),
            message: texts.message.as_ptr(),
            message_length: texts.message.as_bytes().len(),
            limit_option: texts.option.as_ref().map_or(std::ptr::null(), |option| option.as_ptr()),
            limit,
            limit_reached: failure.limit.and_then(|limit| limit.reached).unwrap_or(0),
            limit_unit,
        }
    }
}
