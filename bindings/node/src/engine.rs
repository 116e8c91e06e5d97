//! The engine on libuv: when it is turned, what then crosses the border, and how it ends with its environment.
//!
//! One turn: what JavaScript sent → `EventLoop::turn`, whose callbacks (`handler.rs`) append events → one call of
//! JavaScript's `dispatch`, which walks them → what JavaScript sent meanwhile → `EventLoop::flush` → the next deadline.
//! What JavaScript sends in between waits in its memory until libuv is about to wait.

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use napi::bindgen_prelude::{JsObjectValue, JsValue, Object, Unknown};
use napi::{Env, sys};
use wsx_core::{Connection, EventLoop, Handle, Listener, Message, ReadyState, Result};

use crate::connections::Connections;
use crate::js::{self, Failed, Kept, Scope};
use crate::listeners::Listeners;
use crate::log::Log;
use crate::memory::{Event, LARGE, Memory};
use crate::uv::{self, Watch};
use crate::{command, event};

mod callbacks;

use callbacks::{before_waiting, deadline_is_over, environment_ends, handle_is_closed, readable};

/// From this size on a payload has a Buffer of its own instead of a place in the slab.
const LARGE_PAYLOAD: usize = 16 * 1024;
/// So many bytes of such payloads at most wait for JavaScript within a turn.
const MAX_LARGE: usize = 1024 * 1024;

/// The largest header of a frame that a server sends.
const MAX_HEADER: usize = 10;

/// The events of this turn that JavaScript has not heard of.
#[derive(Default)]
struct Batch {
    events: Cell<usize>,
    /// Bytes in the slab.
    used: Cell<usize>,
    /// Elements of `large`, and their bytes.
    large: Cell<u32>,
    large_bytes: Cell<usize>,
    /// Whether there is something that a program may answer.
    is_answerable: Cell<bool>,
    /// How much a program would send that answers each message with the same.
    waiting: Cell<usize>,
}

/// An engine of one environment: a thread of Node's, or a worker.
pub struct Engine {
    env: sys::napi_env,
    memory: Memory,
    this: Kept,
    large: Kept,
    dispatch: Kept,
    request: Kept,
    /// Borrowed while it turns; none after the end.
    event_loop: RefCell<Option<EventLoop>>,
    pub handle: Handle,
    pub connections: RefCell<Connections>,
    pub listeners: RefCell<Listeners>,
    pub log: Log,
    batch: Batch,
    /// Events that came up while JavaScript ran.
    feedback: RefCell<Vec<Event>>,
    /// Connections that the engine may have begun to close, by itself.
    suspects: RefCell<Vec<(i32, Connection)>>,
    is_dispatching: Cell<bool>,
    /// Calls were made that a flush must follow.
    pub is_touched: Cell<bool>,
    /// JavaScript is not called any more.
    is_over: Cell<bool>,
    watch: RefCell<Option<Watch>>,
    /// When libuv's timer is due, by the loop's time.
    armed: Cell<Option<u64>>,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
    open_handles: Cell<usize>,
}

impl Engine {
    /// An engine on the loop of this environment. `memory` is what `lib/border.js` made.
    pub fn new(env: Env, memory: &Object<'_>) -> napi::Result<Rc<Self>> {
        let raw = env.raw();
        let keep = |name: &str| Kept::new(raw, memory.get_named_property::<Unknown<'_>>(name)?.raw());
        let failed = |error: wsx_core::Error| napi::Error::from_reason(error.to_string());
        let mut event_loop = EventLoop::new().map_err(failed)?;
        // It settles on this thread, before anything is made with it.
        event_loop.flush().map_err(failed)?;
        let descriptor = event_loop.as_raw_fd();
        let engine = Rc::new(Self {
            env: raw,
            memory: Memory::of(memory)?,
            this: Kept::new(raw, memory.raw())?,
            large: keep("large")?,
            dispatch: keep("dispatch")?,
            request: keep("request")?,
            handle: event_loop.handle(),
            event_loop: RefCell::new(Some(event_loop)),
            connections: RefCell::default(),
            listeners: RefCell::default(),
            log: Log::default(),
            batch: Batch::default(),
            feedback: RefCell::default(),
            suspects: RefCell::default(),
            is_dispatching: Cell::new(false),
            is_touched: Cell::new(false),
            is_over: Cell::new(false),
            watch: RefCell::new(None),
            armed: Cell::new(None),
            hook: Cell::new(std::ptr::null_mut()),
            open_handles: Cell::new(uv::HANDLES),
        });
        let uv_loop = env.get_uv_event_loop()?;
        // The handles own a reference, which the last of them gives back.
        let data = Rc::into_raw(engine.clone());
        // SAFETY: this is the environment's own loop and thread; `data` lives until the handles are closed.
        let watch = unsafe { Watch::start(uv_loop, descriptor, data.cast(), readable, before_waiting) };
        match watch {
            Ok(watch) => *engine.watch.borrow_mut() = Some(watch),
            Err(status) => {
                // SAFETY: given out above, and nobody has it.
                drop(unsafe { Rc::from_raw(data) });
                return Err(napi::Error::from_reason(format!("libuv cannot watch the engine: error {status}")));
            }
        }
        let mut hook = std::ptr::null_mut();
        // SAFETY: the hook runs on this thread while `data` lives: the handles are closed by it only.
        unsafe {
            sys::napi_add_async_cleanup_hook(raw, Some(environment_ends), data.cast_mut().cast(), &mut hook);
        }
        engine.hook.set(hook);
        Ok(engine)
    }

    // --- Events: from the engine's callbacks to JavaScript

    /// Appends an event. False where there is no memory for its payload.
    pub fn append(&self, kind: i32, index: i32, payload: &[u8]) -> bool {
        if self.is_over.get() {
            return true;
        }
        let batch = &self.batch;
        if payload.len() >= LARGE_PAYLOAD {
            if !self.memory.has_room(batch.events.get(), 0, 0) || batch.large_bytes.get() >= MAX_LARGE {
                self.dispatch();
            }
            let number = batch.large.get();
            if !js::put_buffer(self.env, &self.large, number, payload) {
                return false;
            }
            batch.large.set(number + 1);
            batch.large_bytes.set(batch.large_bytes.get() + payload.len());
            self.put(Event { kind: kind | LARGE, index, at: number as i32, length: payload.len() as i32 });
        } else {
            if !self.memory.has_room(batch.events.get(), batch.used.get(), payload.len()) {
                self.dispatch();
            }
            let at = batch.used.get();
            self.memory.put_payload(at, payload);
            batch.used.set(at + payload.len());
            self.put(Event { kind, index, at: at as i32, length: payload.len() as i32 });
        }
        true
    }

    /// Appends a message: something the program may answer.
    #[inline]
    pub fn append_message(&self, kind: i32, index: i32, payload: &[u8]) -> bool {
        let appended = self.append(kind, index, payload);
        self.batch.is_answerable.set(true);
        self.batch.waiting.set(self.batch.waiting.get() + MAX_HEADER + payload.len());
        appended
    }

    /// How much a program would send that answers each message that waits for it with the same.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.batch.waiting.get()
    }

    /// The engine may be about to close this connection: when it has, JavaScript is told.
    pub fn may_be_closing(&self, index: i32, connection: Connection) {
        if index >= 0 {
            self.suspects.borrow_mut().push((index, connection));
        }
    }

    /// Appends which of those are closing. An index is still theirs then: a connection that has ended is not closing.
    fn append_closing(&self) {
        for (index, connection) in self.suspects.take() {
            if matches!(connection.ready_state(), Ok(ReadyState::Closing)) {
                self.append(event::CLOSING, index, &[]);
            }
        }
    }

    fn put(&self, event: Event) {
        let number = self.batch.events.get();
        self.memory.put_event(number, event);
        self.batch.events.set(number + 1);
    }

    /// The engine is about to answer a peer by itself: what the program answers to earlier messages goes first.
    pub fn settle(&self) {
        if self.batch.is_answerable.get() {
            self.dispatch();
        }
    }

    /// Tells JavaScript everything that waits, and takes what it sends. An exception ends one listener, not the others.
    pub fn dispatch(&self) {
        if self.is_over.get() || self.is_dispatching.replace(true) {
            return;
        }
        while !self.is_over.get() {
            self.append_feedback();
            let events = self.batch.events.get();
            if events == 0 {
                break;
            }
            self.memory.offer(events, self.batch.used.get());
            loop {
                match js::call(self.env, &self.this, &self.dispatch, &[]) {
                    Ok(_) => break,
                    Err(Failed::Threw) => {}
                    Err(Failed::Over) => {
                        self.is_over.set(true);
                        break;
                    }
                }
            }
            debug_assert!(self.is_over.get() || self.memory.begun() == events);
            self.batch.clear();
            self.connections.borrow_mut().release();
            self.commit();
        }
        self.is_dispatching.set(false);
    }

    fn append_feedback(&self) {
        let mut feedback = self.feedback.borrow_mut();
        let mut taken = 0;
        for event in feedback.iter() {
            if !self.memory.has_room(self.batch.events.get(), 0, 0) {
                break;
            }
            self.put(*event);
            taken += 1;
        }
        feedback.drain(..taken);
    }

    /// Asks JavaScript to answer a request; none where it threw.
    pub fn ask(&self, listener: u32, request: &[u8]) -> Option<sys::napi_value> {
        if self.is_over.get() {
            return None;
        }
        let arguments = [js::number(self.env, listener), js::latin1(self.env, request)];
        let answer = js::call(self.env, &self.this, &self.request, &arguments);
        self.commit();
        match answer {
            Ok(answer) => Some(answer),
            Err(Failed::Threw) => None,
            Err(Failed::Over) => {
                self.is_over.set(true);
                None
            }
        }
    }

    /// The environment, for reading values.
    pub fn env(&self) -> sys::napi_env {
        self.env
    }

    /// A scope for values.
    pub fn scope(&self) -> Scope {
        Scope::open(self.env)
    }

    // --- Commands: from JavaScript to the engine

    /// Hands the engine what JavaScript has sent.
    pub fn commit(&self) {
        if !self.memory.has_commands() {
            return;
        }
        self.is_touched.set(true);
        let connections = self.connections.borrow();
        self.memory.take_commands(|command| {
            let is_text = command.kind & command::TEXT != 0;
            let Some(message) = message(is_text, command.payload, command.extra, command.kind) else {
                self.tell(Event { kind: event::NOT_UTF8, index: command.index, at: 0, length: 0 });
                return;
            };
            // What is refused is closing: its Close tells how much was lost.
            let _ = match command.kind & !command::TEXT {
                command::PUBLISH => match std::str::from_utf8(&command.payload[..command.extra.max(0) as usize]) {
                    Ok(topic) => self.handle.publish(topic, message, self.other(&connections, command.index)),
                    Err(_) => Ok(()),
                },
                command::BROADCAST => {
                    let except = self.other(&connections, command.index);
                    self.listener(command.extra as u32).and_then(|listener| listener.broadcast(message, except))
                }
                _ => connections.at(command.index).send(message).inspect_err(|_| {
                    self.may_be_closing(command.index, connections.at(command.index));
                }),
            };
        });
    }

    /// Who is left out of a broadcast.
    fn other(&self, connections: &Connections, index: i32) -> Option<Connection> {
        (index >= 0).then(|| connections.at(index))
    }

    /// A listener by JavaScript's number.
    pub fn listener(&self, number: u32) -> Result<Listener> {
        self.listeners.borrow().at(number).and_then(|listening| listening.listener.get()).ok_or(wsx_core::Error::Closed)
    }

    /// Lets JavaScript hear of something that came up while it ran.
    fn tell(&self, event: Event) {
        self.feedback.borrow_mut().push(event);
    }

    /// Writes what was sent.
    pub fn flush(&self) {
        self.commit();
        // While the loop turns this is not possible, and not needed: the turn ends with it.
        if let Ok(mut event_loop) = self.event_loop.try_borrow_mut()
            && let Some(event_loop) = event_loop.as_mut()
        {
            let _ = event_loop.flush();
        }
    }

    // --- The loop

    /// Whether this engine keeps the process alive.
    pub fn hold(&self, hold: bool) {
        if let Some(watch) = self.watch.borrow().as_ref() {
            watch.hold(hold);
        }
    }

    fn turn(&self) {
        let _scope = self.scope();
        self.commit();
        let turned = match self.event_loop.try_borrow_mut() {
            Ok(mut event_loop) => event_loop.as_mut().map(|event_loop| event_loop.turn(Some(Duration::ZERO))),
            // Node's loop is being run from inside one of our callbacks: this turn is in progress further up.
            Err(_) => None,
        };
        match turned {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => js::throw_uncaught(self.env, &error.to_string()),
        }
        self.finish();
    }

    /// What follows a turn, or a tick in which JavaScript sent something.
    fn finish(&self) {
        self.is_touched.set(false);
        self.append_closing();
        self.append_records();
        self.dispatch();
        self.flush();
        self.append_closing();
        self.connections.borrow_mut().look(|index, amount| {
            let amount = i32::try_from(amount).unwrap_or(i32::MAX);
            self.tell(Event { kind: event::BUFFERED, index: index as i32, at: amount, length: 0 });
        });
        if !self.feedback.borrow().is_empty() || self.batch.events.get() != 0 {
            self.dispatch();
            self.flush();
        }
        self.arm();
    }

    /// Sets libuv's timer by the next deadline. An earlier one may stay: the turn it brings sets the next.
    fn arm(&self) {
        let deadline = match self.event_loop.try_borrow_mut() {
            Ok(mut event_loop) => event_loop.as_mut().and_then(|event_loop| event_loop.next_deadline().ok().flatten()),
            Err(_) => return,
        };
        let pending = self.memory.has_commands() || !self.feedback.borrow().is_empty();
        let deadline = if pending { Some(Duration::ZERO) } else { deadline };
        let watch = self.watch.borrow();
        let Some(watch) = watch.as_ref() else { return };
        match (deadline, self.armed.get()) {
            (None, None) => {}
            (None, Some(_)) => {
                self.armed.set(None);
                watch.stop_timer();
            }
            (Some(after), armed) => {
                let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
                let due = watch.now().saturating_add(after);
                if armed.is_none_or(|armed| due < armed) {
                    self.armed.set(Some(due));
                    watch.set_timer(after, deadline_is_over);
                }
            }
        }
    }

    /// The environment ends, or this engine does: no call of JavaScript from now on.
    fn end(&self) {
        // What was sent just before leaves if it can.
        self.flush();
        self.is_over.set(true);
        if let Ok(mut event_loop) = self.event_loop.try_borrow_mut() {
            drop(event_loop.take());
        }
        if let Some(watch) = self.watch.borrow_mut().take() {
            watch.close(handle_is_closed);
        }
    }
}

impl Batch {
    fn clear(&self) {
        self.events.set(0);
        self.used.set(0);
        self.large.set(0);
        self.large_bytes.set(0);
        self.is_answerable.set(false);
        self.waiting.set(0);
    }
}

/// The message of a command; none where text is not UTF-8. The topic of a publish comes before it.
fn message(is_text: bool, payload: &[u8], extra: i32, kind: i32) -> Option<Message<'_>> {
    let payload = match kind & !command::TEXT {
        command::PUBLISH => payload.get(extra.max(0) as usize..)?,
        _ => payload,
    };
    match is_text {
        true => simdutf8::basic::from_utf8(payload).ok().map(Message::Text),
        false => Some(Message::Binary(payload)),
    }
}
