//! The event loop: made, driven, asked, ended.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::time::Duration;

use wsx_core::{Connection, Error, EventLoop, Handle, Listener, Result, Timer};

use crate::boundary::{Task, User, count, enter, invalid, message, milliseconds, needed, text};
use crate::callbacks::{wsx_connection, wsx_function, wsx_listener, wsx_timer};
use crate::options::wsx_options;
use crate::status;

/// An event loop: sockets, timers and callbacks of one thread, the first one to run, turn or flush it, or to ask for
/// its timeout; and of further ones that it starts itself (wsx_options_set_threads()). A program may have several
/// loops.
pub struct wsx_loop {
    /// What every call goes through: usable from any thread, whatever the loop does.
    pub(crate) handle: Handle,
    fd: RawFd,
    /// Who drives the loop holds this lock, and nobody ever waits for it.
    engine: Mutex<Option<EventLoop>>,
    /// The loop's thread, once it has one.
    thread: OnceLock<Thread>,
}

/// A thread, told from others by an allocation of its own that it drops when it ends.
struct Thread(Weak<()>);

thread_local! {
    static ALIVE: Arc<()> = Arc::default();
}

impl Thread {
    fn here() -> Self {
        Self(ALIVE.with(Arc::downgrade))
    }

    fn is_here(&self) -> bool {
        ALIVE.with(|alive| self.0.as_ptr() == Arc::as_ptr(alive))
    }

    fn has_ended(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl wsx_loop {
    /// Does something with the engine itself, on the thread that is the loop's from here on: only one caller at a time
    /// can, and none from inside a callback.
    fn drive<R>(&self, call: impl FnOnce(&mut EventLoop) -> Result<R>) -> Result<R> {
        match self.engine.try_lock() {
            Ok(mut engine) if self.thread.get_or_init(Thread::here).is_here() => {
                call(engine.as_mut().ok_or(Error::LoopGone)?)
            }
            Ok(_) => Err(Error::WrongThread),
            Err(TryLockError::WouldBlock) if self.thread.get().is_some_and(Thread::is_here) => Err(Error::Reentrant),
            // A poisoned lock had a panic of the engine under it: nobody can drive that any more.
            Err(_) => Err(Error::WrongThread),
        }
    }

    /// Ends the engine, under the lock: callbacks run in here, and may use the loop.
    fn end(&self) -> Result<()> {
        if !self.thread.get().is_some_and(Thread::has_ended) {
            self.drive(|_| Ok(()))?;
        }
        if let Ok(mut engine) = self.engine.try_lock() {
            drop(engine.take());
        }
        Ok(())
    }
}

/// Makes a loop, with options or, where they are NULL, the defaults. To be freed with wsx_loop_free(). [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_new(
    options: Option<&wsx_options>,
    new_loop: Option<&mut MaybeUninit<*mut wsx_loop>>,
) -> i32 {
    status::silence_panics();
    enter(|| {
        let out = needed(new_loop, "new_loop")?;
        let engine = match options {
            Some(options) => EventLoop::with_options(&options.event_loop),
            None => EventLoop::new(),
        }?;
        let (handle, fd) = (engine.handle(), engine.as_raw_fd());
        let made = wsx_loop { handle, fd, engine: Mutex::new(Some(engine)), thread: OnceLock::new() };
        out.write(Box::into_raw(Box::new(made)));
        Ok(())
    })
}

/// Frees a loop: each open connection hears its on_close, each drop function is called, and threads that the loop has
/// started are waited for. NULL is fine. Inside a callback it is WSX_ERR_REENTRANT, and on a thread that is not the
/// loop's WSX_ERR_WRONG_THREAD; nothing is freed then. Once the loop's thread has ended, which ends its connections
/// without callbacks, any thread may free it. Nobody may use the pointer any more; numbers of connections and listeners
/// stay safe to use. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_free(event_loop: *mut wsx_loop) -> i32 {
    // SAFETY: NULL, or from `wsx_loop_new` and not freed yet.
    let Some(this) = (unsafe { event_loop.as_ref() }) else { return status::WSX_OK };
    let ended = enter(|| this.end());
    if ended == status::WSX_OK {
        // SAFETY: from `wsx_loop_new`, and as the caller promises nobody uses it any more.
        drop(unsafe { Box::from_raw(event_loop) });
    }
    ended
}

/// Runs the loop on this thread until wsx_loop_stop() or the end of wsx_loop_shutdown(). [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_run(event_loop: Option<&wsx_loop>) -> i32 {
    enter(|| needed(event_loop, "loop")?.drive(EventLoop::run))
}

/// Runs one turn: waits for something to do up to timeout_ms (0: does not wait, -1: no limit), does it, and writes
/// whether the loop runs on, which may go to NULL: false after wsx_loop_stop() or the end of wsx_loop_shutdown().
/// [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_turn(
    event_loop: Option<&wsx_loop>,
    timeout_ms: i32,
    running: Option<&mut MaybeUninit<bool>>,
) -> i32 {
    enter(|| {
        let timeout = match timeout_ms {
            -1 => None,
            0.. => Some(Duration::from_millis(timeout_ms as u64)),
            _ => return Err(invalid(format!("a timeout of {timeout_ms} ms: it must be -1, 0 or more"))),
        };
        let runs_on = needed(event_loop, "loop")?.drive(|engine| engine.turn(timeout))?;
        if let Some(running) = running {
            running.write(runs_on);
        }
        Ok(())
    })
}

/// Writes what was sent between turns, without waiting for the next turn. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_flush(event_loop: Option<&wsx_loop>) -> i32 {
    enter(|| needed(event_loop, "loop")?.drive(EventLoop::flush))
}

/// The descriptor that turns readable when a turn has something to do: wait for it with poll(2) or another loop, no
/// longer than wsx_loop_next_timeout() says, then call wsx_loop_turn() with 0. It stays the loop's. A negative number
/// is an error. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_fd(event_loop: Option<&wsx_loop>) -> i32 {
    count(|| Ok(needed(event_loop, "loop")?.fd))
}

/// Writes how long the next turn may wait, in milliseconds: 0: work is waiting, -1: until the descriptor is readable.
/// [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_next_timeout(
    event_loop: Option<&wsx_loop>,
    timeout_ms: Option<&mut MaybeUninit<i32>>,
) -> i32 {
    enter(|| {
        let out = needed(timeout_ms, "timeout_ms")?;
        let deadline = needed(event_loop, "loop")?.drive(EventLoop::next_deadline)?;
        // Rounded up: a turn that comes early would find nothing to do.
        let ms = deadline.map(|due| due.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        out.write(ms.unwrap_or(-1));
        Ok(())
    })
}

/// Calls a function on the loop's thread (of several: the first), in its next turn. The drop function, which may be
/// NULL, is called with the user pointer exactly once: after the function, or without it where the call fails or the
/// loop ends. It must not call the library. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_post(
    event_loop: Option<&wsx_loop>,
    function: wsx_function,
    user: *mut c_void,
    drop: wsx_function,
) -> i32 {
    let user = User { pointer: user, drop };
    enter(|| {
        let task = Task { user, function: needed(function, "function")? };
        needed(event_loop, "loop")?.handle.post(move || task.run())
    })
}

/// Calls a function on this thread of the loop once, after so many milliseconds, and writes the timer's number, which
/// may go to NULL. The drop function is called as with wsx_loop_post(). [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_set_timer(
    event_loop: Option<&wsx_loop>,
    after_ms: u64,
    function: wsx_function,
    user: *mut c_void,
    drop: wsx_function,
    timer: Option<&mut MaybeUninit<wsx_timer>>,
) -> i32 {
    let user = User { pointer: user, drop };
    enter(|| {
        let task = Task { user, function: needed(function, "function")? };
        let set = needed(event_loop, "loop")?.handle.set_timer(milliseconds(after_ms), move || task.run())?;
        if let Some(timer) = timer {
            timer.write(set.id());
        }
        Ok(())
    })
}

/// Cancels a timer; one that has run is no error. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_timer_cancel(timer: wsx_timer) -> i32 {
    enter(|| Timer::from_id(timer).cancel())
}

/// Makes the turn in progress, or the next one, return without waiting. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_wake(event_loop: Option<&wsx_loop>) -> i32 {
    enter(|| needed(event_loop, "loop")?.handle.wake())
}

/// Makes wsx_loop_run() return after its turn. Connections stay as they are. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_stop(event_loop: Option<&wsx_loop>) -> i32 {
    enter(|| needed(event_loop, "loop")?.handle.stop())
}

/// Ends in order: stops accepting, closes every connection with 1001, waits for them up to grace_ms, cuts what is left,
/// and makes wsx_loop_run() return. Each connection hears its on_close. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_loop_shutdown(event_loop: Option<&wsx_loop>, grace_ms: u64) -> i32 {
    enter(|| needed(event_loop, "loop")?.handle.shutdown(milliseconds(grace_ms)))
}

/// Sends a message to all open connections of a listener, or of every listener of the loop where it is 0, but not to
/// the connection except (0: to all). It is encoded once. Success means that it was taken: a peer that does not read
/// meets its backlog policy. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_broadcast(
    event_loop: Option<&wsx_loop>,
    listener: wsx_listener,
    kind: i32,
    payload: *const c_void,
    length: usize,
    except: wsx_connection,
) -> i32 {
    enter(|| {
        let event_loop = needed(event_loop, "loop")?;
        // SAFETY: the contract of the crate.
        let message = unsafe { message(kind, payload, length) }?;
        match listener {
            0 => event_loop.handle.broadcast(message, number(except)),
            _ => Listener::from_id(listener).broadcast(message, number(except)),
        }
    })
}

/// Sends a message to all subscribers of a topic, but not to the connection except (0: to all). It is encoded once; a
/// topic without subscribers is no error. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_publish(
    event_loop: Option<&wsx_loop>,
    topic: *const c_char,
    kind: i32,
    payload: *const c_void,
    length: usize,
    except: wsx_connection,
) -> i32 {
    enter(|| {
        let event_loop = needed(event_loop, "loop")?;
        // SAFETY: the contract of the crate.
        let (topic, message) = unsafe { (text(topic, "topic")?, message(kind, payload, length)?) };
        event_loop.handle.publish(topic, message, number(except))
    })
}

/// Writes how many connections subscribe to a topic; of a loop with several threads, those of this one.
/// [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_subscriber_count(
    event_loop: Option<&wsx_loop>,
    topic: *const c_char,
    total: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    enter(|| {
        let (event_loop, total) = (needed(event_loop, "loop")?, needed(total, "total")?);
        // SAFETY: the contract of the crate.
        let topic = unsafe { text(topic, "topic") }?;
        total.write(event_loop.handle.subscriber_count(topic)?);
        Ok(())
    })
}

/// Writes how many connections of a listener, or of every listener of the loop where it is 0, are open, on all threads.
/// [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_connection_count(
    event_loop: Option<&wsx_loop>,
    listener: wsx_listener,
    total: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    enter(|| {
        let (event_loop, total) = (needed(event_loop, "loop")?, needed(total, "total")?);
        total.write(match listener {
            0 => event_loop.handle.connection_count()?,
            _ => Listener::from_id(listener).connection_count()?,
        });
        Ok(())
    })
}

/// Writes the numbers of those open connections into an array, as many as fit, and how many there are in all, so that a
/// capacity of 0 (the array may be NULL then) just asks; of a loop with several threads, those of this one.
/// [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_connections(
    event_loop: Option<&wsx_loop>,
    listener: wsx_listener,
    array: *mut wsx_connection,
    capacity: usize,
    total: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    enter(|| {
        let event_loop = needed(event_loop, "loop")?;
        if array.is_null() && capacity > 0 {
            return Err(invalid("array is NULL, and its capacity is not 0"));
        }
        let open = match listener {
            0 => event_loop.handle.connections()?,
            _ => Listener::from_id(listener).connections()?,
        };
        for (index, connection) in open.iter().take(capacity).enumerate() {
            // SAFETY: the array has room for `capacity` numbers.
            unsafe { array.add(index).write(connection.id()) };
        }
        if let Some(total) = total {
            total.write(open.len());
        }
        Ok(())
    })
}

fn number(connection: wsx_connection) -> Option<Connection> {
    (connection != 0).then(|| Connection::from_id(connection))
}
