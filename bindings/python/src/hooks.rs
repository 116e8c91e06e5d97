//! The engine's callbacks to Python's.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyTypeInfo, PyVisit, ffi};
use wsx_core::{FailureKind, Handler, Message};

use crate::client::{Client, GiveUp, Reconnecting};
use crate::close::{Close, Failure};
use crate::connection::Connection;
use crate::door::Door;
use crate::inbox::Inbox;
use crate::listener::Listener;
use crate::payload::from_message;
use crate::request::{Fragment, Keeps, Opening, Request, Response};

macro_rules! hooks {
    ($($name:ident),*) => {
        /// The callbacks of a listener or a client that the program has given.
        #[derive(Default)]
        pub(crate) struct Hooks {
            $(pub(crate) $name: Option<Py<PyAny>>,)*
        }

        impl Hooks {
            /// Functions go before methods; a method that `wsx.Handler` only declares is not called.
            pub(crate) fn or_methods(self, py: Python<'_>, handler: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
                let Some(handler) = handler else { return Ok(self) };
                let base = py.import("wsx.handler")?.getattr("Handler")?;
                Ok(Self { $($name: match self.$name {
                    None => method(handler, &base, stringify!($name))?,
                    given => given,
                },)* })
            }

            /// Takes the callbacks out of the keywords of a call.
            pub(crate) fn take(keywords: &Bound<'_, PyDict>) -> PyResult<Self> {
                let take = |name: &str| -> PyResult<Option<Py<PyAny>>> {
                    let Some(given) = keywords.get_item(name)? else { return Ok(None) };
                    keywords.del_item(name)?;
                    Ok((!given.is_none()).then(|| given.unbind()))
                };
                Ok(Self { $($name: take(stringify!($name))?,)* })
            }

            /// Shows the garbage collector what this holds.
            pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
                $(visit.call(&self.$name)?;)*
                Ok(())
            }
        }
    };
}
hooks!(
    on_request,
    after_deferral,
    on_open,
    on_message,
    on_fragment,
    on_ping,
    on_pong,
    on_drain,
    on_error,
    on_close,
    on_reconnecting,
    on_give_up,
    on_listener_error
);

fn method(handler: &Bound<'_, PyAny>, base: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Py<PyAny>>> {
    let Some(found) = handler.getattr_opt(name)? else { return Ok(None) };
    let inherited = handler
        .get_type()
        .getattr_opt(name)?
        .is_some_and(|own| base.getattr(name).is_ok_and(|of_base| own.is(&of_base)));
    let declared_only = inherited && found.getattr_opt("__self__")?.is_some_and(|of| of.is(handler));
    Ok((!declared_only).then(|| found.unbind()))
}

/// The handler of a listener or a client, as the engine sees it.
pub(crate) struct Bridge {
    door: Arc<Door>,
    hooks: Arc<Hooks>,
    /// Messages go to the inbox of their connection.
    is_inbox: bool,
    /// Exceptions of the request hook that have been logged, and will be told as errors of the listener.
    logged: u32,
}

impl Bridge {
    pub(crate) fn new(py: Python<'_>, door: Arc<Door>, hooks: Hooks) -> Self {
        let is_inbox = hooks.on_message.as_ref().is_some_and(|hook| hook.is(Inbox::type_object(py)));
        let hooks = Arc::new(hooks);
        door.add_hooks(hooks.clone());
        Self { door, hooks, is_inbox, logged: 0 }
    }

    /// Calls a hook with a connection and what `argument` makes.
    #[inline]
    fn call(
        &mut self,
        name: &'static str,
        hook: impl Fn(&Hooks) -> &Option<Py<PyAny>>,
        number: wsx_core::Connection,
        argument: impl for<'py> FnOnce(Python<'py>, &Py<Connection>) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) {
        if self.door.is_muted() {
            return;
        }
        if hook(&self.hooks).is_none() {
            return;
        }
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let result = self.door.keep(py, number).and_then(|connection| {
                let Some(hook) = hook(&self.hooks) else { return Ok(()) };
                let argument = argument(py, &connection)?;
                invoke(py, hook, connection.as_any(), argument.as_ref()).map(drop)
            });
            if let Err(error) = result {
                self.raised(py, name, error);
            }
        });
    }

    /// Calls a hook with a client and what `argument` makes.
    fn call_for_client(
        &self,
        name: &'static str,
        hook: Option<&Py<PyAny>>,
        number: wsx_core::Client,
        argument: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
    ) {
        let Some(hook) = hook.filter(|_| !self.door.is_muted()) else { return };
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let told = || -> PyResult<()> {
                let client = Client { number, door: self.door.clone() }.into_py_any(py)?;
                invoke(py, hook, &client, Some(&argument(py)?)).map(drop)
            };
            if let Err(error) = told() {
                self.raised(py, name, error);
            }
        });
    }

    /// A message for a coroutine.
    fn deliver(&mut self, number: wsx_core::Connection, message: Message<'_>) {
        if self.door.is_muted() {
            return;
        }
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let delivered = self.door.keep(py, number).and_then(|connection| match connection.get().inbox(py) {
                Some(inbox) => inbox.get().deliver(py, from_message(py, message).unbind()),
                None => Ok(false),
            });
            match delivered {
                Ok(true) => self.door.wakes(),
                Ok(false) => {}
                Err(error) => self.raised(py, "on_message", error),
            }
        });
    }

    /// A callback raised. An `Exception` is logged, and fails the connection as a panic does; anything else
    /// (KeyboardInterrupt, SystemExit) leaves the turn.
    #[cold]
    fn raised(&self, py: Python<'_>, name: &'static str, error: PyErr) {
        if !error.is_instance_of::<PyException>(py) {
            return self.door.set_pending(error);
        }
        log_exception(py, name, &error);
        // Not a panic: nothing is printed.
        resume_unwind(Box::new(error.to_string()));
    }
}

/// Calls with one or two arguments, without making a tuple of them.
#[inline]
fn invoke<'py>(
    py: Python<'py>,
    hook: &Py<PyAny>,
    first: &Py<PyAny>,
    second: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let second = second.map_or(std::ptr::null_mut(), Bound::as_ptr);
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // SAFETY: attached; the arguments are alive during the call, and their list ends with NULL. The call answers a new
    // reference, or NULL with an exception set.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(hook.as_ptr(), first.as_ptr(), second, end);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Logs an exception with its traceback to the logger "wsx". What logging itself raises has nowhere to go.
#[cold]
pub(crate) fn log_exception(py: Python<'_>, name: &str, error: &PyErr) {
    let log = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("wsx",))?;
        let keywords = PyDict::new(py);
        keywords.set_item("exc_info", error.clone_ref(py).into_value(py))?;
        logger.call_method("error", ("exception in %s", name), Some(&keywords))?;
        Ok(())
    };
    let _ = log();
}

#[cold]
fn log_warning(py: Python<'_>, text: &str) {
    let log = || py.import("logging")?.call_method1("getLogger", ("wsx",))?.call_method1("warning", ("%s", text));
    let _ = log();
}

impl Handler for Bridge {
    fn on_request(&mut self, request: &wsx_core::Request<'_>) -> wsx_core::Response {
        let hooks = self.hooks.clone();
        let Some(hook) = &hooks.on_request else { return wsx_core::Response::accept() };
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let number = request.connection();
            let answer = self.door.ask(py, number).and_then(|connection| {
                let seen = Request::new(py, request, connection.clone_ref(py))?.into_py_any(py)?;
                let answer = invoke(py, hook, &seen, None)?;
                if answer.is_none() {
                    return Ok(wsx_core::Response::accept());
                }
                let answer = answer.cast::<Response>().map_err(|_| {
                    let given = answer.get_type();
                    PyTypeError::new_err(format!("on_request answers a wsx.Response or None, not {given}"))
                })?;
                match answer.get().keeps {
                    Keeps::Nothing => {}
                    Keeps::Stream => drop(self.door.keep(py, number)?),
                    Keeps::Request => self.door.defer(number),
                }
                Ok(answer.get().response.clone())
            });
            answer.unwrap_or_else(|error| {
                self.logged += u32::from(error.is_instance_of::<PyException>(py));
                self.raised(py, "on_request", error);
                wsx_core::Response::reject(503, "the server is being stopped\n")
            })
        })
    }

    fn after_deferral(&mut self, connection: wsx_core::Connection, is_answered: bool) {
        if self.door.is_muted() {
            return;
        }
        let hooks = self.hooks.clone();
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let told = self.door.end_deferral(py, connection, is_answered).and_then(|connection| {
                let (Some(hook), Some(connection)) = (&hooks.after_deferral, connection) else { return Ok(()) };
                let is_answered = is_answered.into_bound_py_any(py)?;
                invoke(py, hook, connection.as_any(), Some(&is_answered)).map(drop)
            });
            if let Err(error) = told {
                self.raised(py, "after_deferral", error);
            }
        });
    }

    fn on_open(&mut self, connection: wsx_core::Connection, opening: &wsx_core::Opening<'_>) {
        if self.hooks.on_request.is_some() {
            // What the request hook has kept with it stays.
            let kept = Python::attach(|py| self.door.keep(py, connection).map(drop));
            debug_assert!(kept.is_ok());
        }
        self.call(
            "on_open",
            |hooks| &hooks.on_open,
            connection,
            |py, connection| Opening::new(py, opening, connection)?.into_bound_py_any(py).map(Some),
        );
    }

    #[inline]
    fn on_message(&mut self, connection: wsx_core::Connection, message: Message<'_>) {
        if self.is_inbox {
            return self.deliver(connection, message);
        }
        self.call("on_message", |hooks| &hooks.on_message, connection, |py, _| Ok(Some(from_message(py, message))));
    }

    fn on_fragment(&mut self, connection: wsx_core::Connection, fragment: wsx_core::Fragment<'_>) {
        self.call(
            "on_fragment",
            |hooks| &hooks.on_fragment,
            connection,
            |py, _| Fragment::new(py, fragment).into_bound_py_any(py).map(Some),
        );
    }

    fn on_ping(&mut self, connection: wsx_core::Connection, payload: &[u8]) {
        self.call(
            "on_ping",
            |hooks| &hooks.on_ping,
            connection,
            |py, _| Ok(Some(PyBytes::new(py, payload).into_any())),
        );
    }

    fn on_pong(&mut self, connection: wsx_core::Connection, payload: &[u8], _: Option<Duration>) {
        self.call(
            "on_pong",
            |hooks| &hooks.on_pong,
            connection,
            |py, _| Ok(Some(PyBytes::new(py, payload).into_any())),
        );
    }

    fn on_drain(&mut self, connection: wsx_core::Connection) {
        self.call("on_drain", |hooks| &hooks.on_drain, connection, |_, _| Ok(None));
    }

    fn on_error(&mut self, connection: wsx_core::Connection, failure: &wsx_core::Failure) {
        self.call(
            "on_error",
            |hooks| &hooks.on_error,
            connection,
            |py, _| Failure(failure.clone()).into_bound_py_any(py).map(Some),
        );
    }

    fn on_close(&mut self, connection: wsx_core::Connection, close: &wsx_core::Close<'_>) {
        /// Also if the callback raises.
        struct Forget<'a>(&'a mut Bridge, wsx_core::Connection);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.door.forget(self.1);
            }
        }
        let forget = Forget(self, connection);
        forget.0.call(
            "on_close",
            |hooks| &hooks.on_close,
            connection,
            |py, _| Close::new(py, close)?.into_bound_py_any(py).map(Some),
        );
    }

    fn on_reconnecting(&mut self, client: wsx_core::Client, reconnecting: &wsx_core::Reconnecting<'_>) {
        let hooks = self.hooks.clone();
        self.call_for_client("on_reconnecting", hooks.on_reconnecting.as_ref(), client, |py| {
            Reconnecting::new(py, reconnecting)?.into_bound_py_any(py)
        });
    }

    fn on_give_up(&mut self, client: wsx_core::Client, give_up: &wsx_core::GiveUp) {
        let hooks = self.hooks.clone();
        self.call_for_client("on_give_up", hooks.on_give_up.as_ref(), client, |py| {
            GiveUp(give_up.clone()).into_bound_py_any(py)
        });
    }

    fn on_listener_error(&mut self, listener: wsx_core::Listener, failure: &wsx_core::Failure) {
        if self.door.is_muted() {
            return;
        }
        let hooks = self.hooks.clone();
        self.door.calls.fetch_add(1, Ordering::Relaxed);
        Python::attach(|py| {
            let Some(hook) = &hooks.on_listener_error else {
                if failure.kind == FailureKind::Callback && self.logged > 0 {
                    self.logged -= 1;
                } else {
                    log_warning(py, &failure.message);
                }
                return;
            };
            let told = || -> PyResult<()> {
                let listener = Listener { number: listener, door: self.door.clone() }.into_py_any(py)?;
                let failure = Failure(failure.clone()).into_bound_py_any(py)?;
                invoke(py, hook, &listener, Some(&failure)).map(drop)
            };
            if let Err(error) = told() {
                self.raised(py, "on_listener_error", error);
            }
        });
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.door.remove_hooks(&self.hooks);
    }
}
