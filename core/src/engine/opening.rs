//! Bytes in, before a connection is open: HTTP heads to the request hook, and its answer out.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::callback::with_handler;
use super::frames::frames;
use super::group::Group;
use super::receive::opened;
use super::record::{Ending, Phase, Record};
use super::shared::LoopCell;
use super::state::{News, State};
use crate::close::{self, Side};
use crate::error::{Failure, FailureKind, Stage};
use crate::event::{Address, Connection, Headers, Opening, Request, Response, ResponseKind, Secured};
use crate::protocol::deflate::{self, Agreement};
use crate::protocol::frame::Role;
use crate::protocol::handshake::{self, Agreed, check_request, choose_subprotocol, write_accept};
use crate::protocol::http::{self, Body, HttpError, MAX_HEADERS};
use crate::protocol::origin::check_origin;
use crate::protocol::redirect;
use crate::statistics::Refusal;

type Storage<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_HEADERS];

/// Where the end of an HTTP head was found.
enum Head {
    /// Not yet: what came is kept.
    Incomplete,
    /// In these bytes.
    Here(usize),
    /// In what was kept; so many of these bytes belonged to it.
    Kept(Vec<u8>, usize),
    Bad(HttpError),
}

impl Head {
    /// How many of the bytes that came belong to the head.
    fn used(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Here(used) | Self::Kept(_, used) => *used,
            Self::Incomplete | Self::Bad(_) => bytes.len(),
        }
    }
}

/// A request is coming.
#[inline(never)]
pub(super) fn receive_request(cell: &LoopCell, slot: u32, bytes: &mut [u8]) {
    let found = cell.state().hear_head(slot, bytes);
    match found {
        Head::Incomplete => {}
        Head::Bad(error) => cell.state().refuse(slot, &error),
        Head::Here(end) => {
            let (head, rest) = bytes.split_at_mut(end);
            serve(cell, slot, head, rest);
        }
        Head::Kept(head, used) => serve(cell, slot, &head, &mut bytes[used..]),
    }
}

/// Answers a request; `rest` is what came behind it, which for a WebSocket is its first frames.
fn serve(cell: &LoopCell, slot: u32, head: &[u8], rest: &mut [u8]) {
    let mut storage: Storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut state = cell.state();
    let mut examined = match state.parse(slot, head, &mut storage) {
        Ok(Some(examined)) => examined,
        Ok(None) => return,
        Err(error) => return state.refuse(slot, &error),
    };
    if let Err(error) = state.admit(slot, &mut examined) {
        return state.refuse(slot, &error);
    }
    drop(state);
    let response = match with_handler(cell, examined.group, |handler| handler.on_request(&examined.request())) {
        Some(Ok(response)) if response.kind == ResponseKind::Later => return cell.state().defer(slot, head, rest),
        Some(Ok(response)) => response,
        Some(Err(panicked)) => return cell.state().request_failed(slot, panicked),
        None => return,
    };
    if answer(cell, slot, &examined, response) && !rest.is_empty() {
        frames(cell, cell.state(), slot, rest);
    }
}

/// Answers a request that was deferred. What came behind it is received again, as is whatever the peer has sent since.
pub(super) fn serve_deferred(cell: &LoopCell, id: u64, response: Response) {
    let Some((slot, head)) = cell.state().take_deferred(id) else { return };
    let mut storage: Storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let parsed = cell.state().parse(slot, &head, &mut storage);
    // It was good when it came.
    let Ok(Some(examined)) = parsed else { return cell.state().finish(slot) };
    with_handler(cell, examined.group, |handler| handler.after_deferral(examined.connection, true));
    answer(cell, slot, &examined, response);
    cell.state().read_again(slot);
}

/// Sends what the program answers, and tells `on_open` where that opens a WebSocket. False where it does not.
fn answer(cell: &LoopCell, slot: u32, examined: &Examined<'_, '_>, response: Response) -> bool {
    let request = examined.request();
    let answered = cell.state().answer(slot, &request, examined.key, examined.parsed.version, response);
    let Some(subprotocol) = answered else { return false };
    let opening = Opening { request: Some(&request), headers: request.headers, subprotocol: subprotocol.as_deref() };
    opened(cell, slot, examined.group, |handler| handler.on_open(request.connection, &opening));
    true
}

/// An answer to our request is coming.
#[inline(never)]
pub(super) fn receive_response(cell: &LoopCell, slot: u32, bytes: &mut [u8]) {
    let found = cell.state().hear_head(slot, bytes);
    match found {
        Head::Incomplete => {}
        Head::Bad(error) => cell.state().fail(slot, close::ABNORMAL, Side::Us, bad_answer(error)),
        Head::Here(end) => {
            let (head, rest) = bytes.split_at_mut(end);
            take_answer(cell, slot, head, rest);
        }
        Head::Kept(head, used) => take_answer(cell, slot, &head, &mut bytes[used..]),
    }
}

fn take_answer(cell: &LoopCell, slot: u32, head: &[u8], rest: &mut [u8]) {
    let mut storage: Storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let checked = cell.state().check_answer(slot, head, &mut storage);
    let (headers, Agreed { subprotocol, compression }) = match checked {
        Ok(Answer::Open(headers, agreed)) => (headers, agreed),
        Ok(Answer::Elsewhere(status, location)) => return cell.state().follow(slot, status, &location),
        Err(failure) => return cell.state().fail(slot, close::ABNORMAL, Side::Us, failure),
    };
    let Some((connection, group)) = cell.state().open(slot, subprotocol.as_deref(), compression) else { return };
    cell.state().attempt_opened(slot);
    let opening = Opening { request: None, headers: Headers(headers), subprotocol: subprotocol.as_deref() };
    opened(cell, slot, group, |handler| handler.on_open(connection, &opening));
    if !rest.is_empty() {
        frames(cell, cell.state(), slot, rest);
    }
}

/// A head that is no answer of a server, or too large for one.
fn bad_answer(error: HttpError) -> Failure {
    let message = format!("bad answer: {}", error.message);
    match error.limit {
        Some(limit) => Failure::limit(Stage::Http, limit, message),
        None => Failure::new(Stage::Http, FailureKind::Protocol, message),
    }
}

/// What a request is served with.
struct Examined<'h, 'b> {
    connection: Connection,
    group: u32,
    peer: Address,
    parsed: http::RequestHead<'h, 'b>,
    /// That of a request for a WebSocket.
    key: Option<&'b [u8]>,
    secured: Option<Secured>,
}

impl Examined<'_, '_> {
    fn request(&self) -> Request<'_> {
        Request {
            connection: self.connection,
            peer: &self.peer,
            method: self.parsed.method,
            target: self.parsed.target,
            headers: Headers(self.parsed.headers),
            is_upgrade: self.key.is_some(),
            secured: self.secured.as_ref(),
        }
    }
}

fn check_room(group: &Group) -> Result<(), HttpError> {
    if group.everywhere.records.load(Ordering::Relaxed) > group.max_connections {
        return Err(HttpError::new(503, "the server is full (max_connections): try again later"));
    }
    Ok(())
}

/// What a server's answer comes to.
enum Answer<'h, 'b> {
    /// The WebSocket is open.
    Open(&'h [httparse::Header<'b>], Agreed),
    /// A redirect that is to be followed: its status, and where to.
    Elsewhere(u16, String),
}

impl Record {
    /// Looks for the end of the head, and keeps what came of it if it is not there.
    fn find_head(&mut self, bytes: &[u8], limit: usize) -> Head {
        let kept = self.extra.as_ref().map_or(0, |extra| extra.head.len());
        if kept == 0 {
            let mut scanned = 0;
            return match http::scan_head(bytes, &mut scanned, limit) {
                Ok(Some(end)) => Head::Here(end),
                Ok(None) => {
                    let extra = self.extra();
                    extra.head = bytes.to_vec();
                    extra.scanned = scanned;
                    Head::Incomplete
                }
                Err(error) => Head::Bad(error),
            };
        }
        let extra = self.extra();
        // No more than the limit is kept, whatever came behind it.
        extra.head.extend(&bytes[..bytes.len().min(limit.saturating_sub(kept) + 1)]);
        match http::scan_head(&extra.head, &mut extra.scanned, limit) {
            Ok(Some(end)) => {
                let mut head = std::mem::take(&mut extra.head);
                head.truncate(end);
                Head::Kept(head, end - kept)
            }
            Ok(None) => Head::Incomplete,
            Err(error) => Head::Bad(error),
        }
    }
}

impl State {
    /// Looks for the end of the head, and counts what belongs to it.
    fn hear_head(&mut self, slot: u32, bytes: &[u8]) -> Head {
        let Some(record) = self.connections.get_mut(slot) else { return Head::Incomplete };
        let Some(group) = self.groups.get(record.group) else { return Head::Incomplete };
        let found = record.find_head(bytes, group.options.max_head);
        group.counters.bytes_received.add(found.used(bytes) as u64);
        found
    }

    /// Parses a request; `None` where the connection is gone.
    fn parse<'h, 'b>(
        &self,
        slot: u32,
        head: &'b [u8],
        storage: &'h mut Storage<'b>,
    ) -> Result<Option<Examined<'h, 'b>>, HttpError> {
        let Some(record) = self.connections.get(slot) else { return Ok(None) };
        let Some(group) = self.groups.get(record.group) else { return Ok(None) };
        let parsed = http::parse_request(head, &mut storage[..group.options.max_headers])?;
        let key = check_request(&parsed)?;
        let secured = record.transport.as_ref().and_then(|transport| transport.secured());
        let connection = Connection(self.connections.id(slot));
        Ok(Some(Examined { connection, group: record.group, peer: record.peer_address(), parsed, key, secured }))
    }

    /// Checks what needs no program, and finds the route.
    fn admit(&mut self, slot: u32, examined: &mut Examined<'_, '_>) -> Result<(), HttpError> {
        if self.connections.get(slot).is_some_and(|record| record.is_surplus()) {
            let message = "your address has too many connections (max_connections_per_address): close one of them";
            return Err(HttpError { cause: Refusal::Address, ..HttpError::new(503, message) });
        }
        let Some(mut group) = self.groups.get(examined.group) else { return Ok(()) };
        check_room(group)?;
        if !group.routes.is_empty()
            && let Some(route) = group.route_to(examined.request().path())
        {
            examined.group = route;
            self.enter_route(slot, route);
            let Some(entered) = self.groups.get(route) else { return Ok(()) };
            check_room(entered)?;
            group = entered;
        }
        if examined.key.is_some() {
            let is_served = |only: &str| examined.request().path() == only;
            if !group.options.path.as_deref().is_none_or(is_served) {
                return Err(HttpError::new(404, "no WebSocket is served at this path"));
            }
            check_origin(Headers(examined.parsed.headers), &group.options.origins, examined.secured.is_some())?;
        }
        self.shared.waiting_requests.begin_asking(examined.connection.0);
        Ok(())
    }

    /// Sends what the request hook answered. `Some` where a WebSocket is open now, with its subprotocol.
    fn answer(
        &mut self,
        slot: u32,
        request: &Request<'_>,
        key: Option<&[u8]>,
        version: u8,
        response: Response,
    ) -> Option<Option<String>> {
        self.shared.waiting_requests.end_asking();
        let record = self.connections.get_mut(slot).filter(|record| record.phase == Phase::Request)?;
        let group = self.groups.get(record.group)?;
        if let Some(error) = response.error {
            self.hook_erred(slot, format!("the request hook's answer cannot be sent: {error}"));
            return None;
        }
        match (response.kind, key) {
            // It was deferred already, and what answers it then is no such one.
            (ResponseKind::Later, _) => None,
            (ResponseKind::Accept, None) => {
                let only = group.options.path.as_deref();
                let error = if only.is_some_and(|only| only != request.path()) {
                    HttpError::new(404, "nothing is served at this path")
                } else {
                    HttpError::new(426, "a WebSocket is served here: send an opening handshake (RFC 6455)")
                };
                self.refuse(slot, &error);
                None
            }
            (ResponseKind::Accept, Some(key)) => {
                let subprotocol = match response.subprotocol {
                    Some(chosen) if !request.subprotocols().any(|offered| offered == chosen) => {
                        self.hook_erred(
                            slot,
                            format!("the request hook chose the subprotocol {chosen:?}, which was not offered"),
                        );
                        return None;
                    }
                    Some(chosen) => Some(chosen),
                    None => choose_subprotocol(request.headers, &group.options.subprotocols).map(str::to_owned),
                };
                let compression = group.options.compression.as_ref();
                let compression = compression.and_then(|options| deflate::accept(request.headers.0, options));
                record.outbox.append(&mut self.spares, |out| {
                    write_accept(out, key, subprotocol.as_deref(), compression, &response.headers);
                });
                self.open(slot, subprotocol.as_deref(), compression)?;
                Some(subprotocol)
            }
            (ResponseKind::Whole, _) => {
                let body = match request.method {
                    "HEAD" => Body::Omitted(response.body.len()),
                    _ => Body::Whole(&response.body),
                };
                record.outbox.append(&mut self.spares, |out| {
                    http::write_response(out, response.status, &response.headers, body);
                });
                match key {
                    Some(_) => self.count_refused(slot, Refusal::Hook),
                    None => self.counters(slot).map_or((), |counters| counters.answered.add(1)),
                }
                self.end(slot, Ending::orderly(close::NORMAL, "", Side::Us, true));
                None
            }
            (ResponseKind::Stream, _) => {
                record.set_chunked(version == 1);
                let body = if record.chunked() { Body::Chunked } else { Body::UntilClose };
                record.outbox.append(&mut self.spares, |out| {
                    http::write_response(out, response.status, &response.headers, body);
                });
                record.extra = None;
                record.set_announced(true);
                record.phase = Phase::Stream;
                // A stream has no heartbeat of its own, and a client that vanished would never be noticed.
                if let Some(transport) = &record.transport {
                    transport.keep_stream_alive(&group.options);
                }
                self.count_opened(slot);
                self.touch(slot);
                if request.method == "HEAD" {
                    // The head is all there is.
                    if let Some(record) = self.connections.get_mut(slot) {
                        record.set_chunked(false);
                    }
                    let _ = self.close(request.connection, close::NORMAL, "");
                }
                None
            }
        }
    }

    /// Makes a connection OPEN.
    fn open(
        &mut self,
        slot: u32,
        subprotocol: Option<&str>,
        compression: Option<Agreement>,
    ) -> Option<(Connection, u32)> {
        self.settle();
        let (id, record) = self.connections.get_with_id(slot)?;
        let group_slot = record.group;
        let group = self.groups.get_mut(group_slot)?;
        // What the handshake needed is freed: an open connection keeps only what it uses.
        let (unix_path, carry) = record.extra.take().map(|extra| (extra.unix_path, extra.carry)).unwrap_or_default();
        if subprotocol.is_some() || unix_path.is_some() || !carry.is_empty() {
            let extra = record.extra();
            extra.subprotocol = subprotocol.map(Into::into);
            extra.unix_path = unix_path;
            extra.carry = carry;
        }
        record.set_announced(true);
        record.phase = Phase::WebSocket;
        record.protocol.open(compression);
        record.since = 0;
        if record.protocol.role() == Role::Server {
            record.member = group.members.len() as u32;
            group.members.push(slot);
            group.everywhere.open.fetch_add(1, Ordering::Relaxed);
        }
        // The handshake's timer is void: an idle loop must not wake for it.
        self.timers.forget(std::mem::take(&mut record.timer_at));
        self.count_opened(slot);
        self.touch(slot);
        self.schedule(slot);
        Some((Connection(id), group_slot))
    }

    /// Answers a bad request.
    pub(super) fn refuse(&mut self, slot: u32, error: &HttpError) {
        let Some(record) = self.connections.get_mut(slot).filter(|record| record.phase == Phase::Request) else {
            return;
        };
        record.outbox.append(&mut self.spares, |out| handshake::error_response(out, error));
        self.count_refused(slot, error.cause);
        self.end(slot, Ending::orderly(close::NORMAL, "", Side::Us, true));
    }

    /// The time for the opening handshake is over: a request that was begun gets an answer.
    pub(super) fn request_timed_out(&mut self, slot: u32, timeout: Duration) {
        let begun = self.connections.get(slot).is_some_and(|record| record.extra.is_some());
        if begun {
            let message = format!("no whole request came within {timeout:?} (handshake_timeout)");
            self.refuse(slot, &HttpError::new(408, message));
        } else {
            self.count_refused(slot, Refusal::Timeout);
            self.finish(slot);
        }
    }

    /// Tells the listener of a connection that something failed in the answer to its request.
    pub(super) fn answer_failed(&mut self, slot: u32, failure: Failure) {
        if let Some(group) = self.connections.get(slot).map(|record| record.group) {
            self.news.push_back(News::ListenerError(group, failure));
        }
    }

    /// The program's request hook erred: the client gets a 500, and the listener hears why.
    #[cold]
    fn hook_erred(&mut self, slot: u32, message: String) {
        self.answer_failed(slot, Failure::new(Stage::Http, FailureKind::Callback, message));
        self.refuse(slot, &HttpError::new(500, "internal server error"));
    }

    #[cold]
    fn request_failed(&mut self, slot: u32, panicked: super::callback::Panicked) {
        self.shared.waiting_requests.end_asking();
        self.hook_erred(slot, format!("the request hook panicked: {}", panicked.message()));
    }

    /// Parses and checks a server's answer.
    fn check_answer<'h, 'b>(
        &mut self,
        slot: u32,
        head: &'b [u8],
        storage: &'h mut Storage<'b>,
    ) -> Result<Answer<'h, 'b>, Failure> {
        let gone = || Failure::new(Stage::Http, FailureKind::Protocol, "the connection is gone");
        let record = self.connections.get(slot).ok_or_else(gone)?;
        let group = self.groups.get(record.group).ok_or_else(gone)?;
        let dial = record.extra.as_ref().and_then(|extra| extra.dial.as_ref()).ok_or_else(gone)?;
        let parsed = http::parse_response(head, &mut storage[..group.options.max_headers]).map_err(bad_answer)?;
        if group.options.max_redirects > 0
            && let Some(location) = redirect::location(&parsed)
        {
            return Ok(Answer::Elsewhere(parsed.status, location));
        }
        let agreed = handshake::check_response(&parsed, &dial.key, &group.options);
        if agreed.is_err() {
            self.attempt_refused(slot, Headers(parsed.headers));
        }
        Ok(Answer::Open(parsed.headers, agreed?))
    }
}
