//! Routes: paths of a listener that have options and a handler of their own.
//!
//! A route is a group, as a listener is, whose connections the listener accepts: they change over when their request has
//! come. The listener counts them as well, so that its limit holds for all, and so that it outlives its routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{Everywhere, Group, OwnedHandler};
use super::listener::check_options;
use super::state::{News, State};
use crate::config::Options;
use crate::error::{Error, Result};
use crate::event::{Handler, Listener};

/// Where a route begins, and the group that serves it.
#[derive(Debug)]
pub(super) struct Route {
    /// Up to the last slash where it is everything below that.
    path: String,
    is_prefix: bool,
    pub(super) group: u32,
}

impl Route {
    fn new(path: &str, group: u32) -> Self {
        let prefix = path.strip_suffix('*');
        Self { path: prefix.unwrap_or(path).to_owned(), is_prefix: prefix.is_some(), group }
    }

    fn leads_to(&self, path: &str) -> bool {
        if self.is_prefix { path.starts_with(&self.path) } else { path == self.path }
    }
}

/// What can be a path of a route: a whole one, or one that ends in `/*`.
fn check_path(path: &str) -> Result<()> {
    let whole = path.strip_suffix("/*").unwrap_or(path);
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if is_path && !whole.contains('*') {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{path:?} is no path of a route: one begins with a slash, has neither query nor fragment, and may end in /*"
    )))
}

/// What concerns the socket, and the head of the request before its path is known, cannot be a route's own.
fn check_is_of_connection(options: &Options) -> Result<()> {
    let default = Options::default();
    let own = [
        ("tls", options.tls.is_some()),
        ("path", options.path.is_some()),
        ("listen_backlog", options.listen_backlog != default.listen_backlog),
        ("reuse_port", options.reuse_port != default.reuse_port),
        ("no_delay", options.no_delay != default.no_delay),
        ("keep_alive_idle", options.keep_alive_idle != default.keep_alive_idle),
        ("keep_alive_interval", options.keep_alive_interval != default.keep_alive_interval),
        ("keep_alive_count", options.keep_alive_count != default.keep_alive_count),
        ("max_head", options.max_head != default.max_head),
        ("max_headers", options.max_headers != default.max_headers),
        ("max_connections_per_address", options.max_connections_per_address != default.max_connections_per_address),
    ];
    match own.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::invalid(format!("the option {name} is the listener's, and no route has its own")))
        }
    }
}

/// What a route has of its listener: a request that is answered later is parsed once more, by the limits that it was let in
/// by, and what came behind it is kept up to them.
fn of_connection(options: &Options, listener: &Options) -> Options {
    let mut options = options.clone();
    options.max_head = listener.max_head;
    options.max_headers = listener.max_headers;
    options.keep_alive_idle = listener.keep_alive_idle;
    options.keep_alive_interval = listener.keep_alive_interval;
    options.keep_alive_count = listener.keep_alive_count;
    options
}

impl Group {
    /// The group that serves a path: that of the route that names it whole, else of the longest that ends before it.
    pub(super) fn route_to(&self, path: &str) -> Option<u32> {
        let routes = self.routes.iter().filter(|route| route.leads_to(path));
        routes.max_by_key(|route| (!route.is_prefix, route.path.len())).map(|route| route.group)
    }
}

impl State {
    /// Begins a route; takes `handler` only where that succeeds, as [`listen`](Self::listen) does.
    pub(super) fn route(
        &mut self,
        listener: Listener,
        path: &str,
        options: &Options,
        handler: &mut OwnedHandler,
        everywhere: Arc<Everywhere>,
    ) -> Result<Listener> {
        self.check_alive()?;
        check_path(path)?;
        check_is_of_connection(options)?;
        check_options(options)?;
        let within = self.listener_slot(listener)?;
        let Some(group) = self.groups.get(within) else { return Err(Error::Closed) };
        if group.within.is_some() {
            return Err(Error::invalid("a route has no routes: give the listener that it belongs to"));
        }
        let route = Route::new(path, 0);
        if group.routes.iter().any(|one| (&one.path, one.is_prefix) == (&route.path, route.is_prefix)) {
            return Err(Error::invalid(format!("the listener has a route to {path} already")));
        }
        self.add_route(None, within, path, options, handler.take(), everywhere)
    }

    /// Serves a route of a listener that another loop has begun, on this thread's share of the listener.
    pub(super) fn join_route(
        &mut self,
        route: Listener,
        listener: Listener,
        path: &str,
        options: &Options,
        handler: Box<dyn Handler>,
        everywhere: Arc<Everywhere>,
    ) -> Result<()> {
        let Ok(within) = self.listener_slot(listener) else {
            // The handler's own drop may call anything: not while this state is borrowed.
            let slot = self.insert_group(Group::new(options, Some(handler), Arc::default()))?;
            self.news.push_back(News::IdleGroup(slot));
            return Err(Error::Closed);
        };
        self.add_route(Some(route), within, path, options, Some(handler), everywhere).map(drop)
    }

    /// The group of a route, with the number that another loop has given it, or one of its own.
    fn add_route(
        &mut self,
        number: Option<Listener>,
        within: u32,
        path: &str,
        options: &Options,
        handler: OwnedHandler,
        everywhere: Arc<Everywhere>,
    ) -> Result<Listener> {
        let options = match self.groups.get(within) {
            Some(listener) => of_connection(options, &listener.options),
            None => options.clone(),
        };
        let mut group = Group::new(&options, handler, Arc::default());
        group.everywhere = everywhere;
        group.within = Some(within);
        if options.max_connections != 0 {
            group.max_connections = options.max_connections;
        }
        let counters = group.counters.clone();
        let slot = self.insert_group(group)?;
        let here = Listener(self.groups.id(slot));
        let number = number.unwrap_or(here);
        if number != here {
            self.shared_listeners.insert(number, slot);
        }
        if let Some(group) = self.groups.get_mut(slot) {
            group.listener = number;
        }
        if let Some(listener) = self.groups.get_mut(within) {
            listener.routes.push(Route::new(path, slot));
            let address = listener.acceptor.as_ref().and_then(|acceptor| acceptor.address().ok());
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            self.shared.counted.begin(number, format!("{address}{path}"), counters);
            self.listeners += 1;
        }
        Ok(number)
    }

    /// Whether requests still come to this listener or route.
    pub(super) fn is_listening(&self, slot: u32) -> bool {
        let Some(group) = self.groups.get(slot) else { return false };
        match group.within.map(|within| self.groups.get(within)) {
            None => group.acceptor.is_some(),
            Some(within) => within.is_some_and(|within| within.acceptor.is_some() && self.is_route_of(within, slot)),
        }
    }

    fn is_route_of(&self, within: &Group, slot: u32) -> bool {
        within.routes.iter().any(|route| route.group == slot)
    }

    /// Whether this is a route of a listener that has not gone.
    pub(super) fn is_route(&self, slot: u32) -> bool {
        let within = self.groups.get(slot).and_then(|group| self.groups.get(group.within?));
        within.is_some_and(|within| self.is_route_of(within, slot))
    }

    /// The slot of what accepts for a listener or route: its own, or that of the listener.
    pub(super) fn accepting_slot(&self, slot: u32) -> u32 {
        self.groups.get(slot).and_then(|group| group.within).unwrap_or(slot)
    }

    /// Ends a route: its path is the listener's again. Its connections stay.
    pub(super) fn close_route(&mut self, slot: u32) {
        let within = self.groups.get(slot).and_then(|group| group.within);
        if let Some(within) = within.and_then(|within| self.groups.get_mut(within)) {
            within.routes.retain(|route| route.group != slot);
        }
        self.news.push_back(News::IdleGroup(slot));
    }

    /// A request is for a route: the connection is the route's from now on.
    pub(super) fn enter_route(&mut self, slot: u32, route: u32) {
        self.count_handshake(slot, false);
        if let Some(record) = self.connections.get_mut(slot) {
            record.group = route;
        }
        self.count_handshake(slot, true);
        if let Some(group) = self.groups.get_mut(route) {
            group.records += 1;
            group.everywhere.records.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_path_goes_before_the_longest_beginning() {
        let mut group = Group::new(&Options::default(), None, Arc::default());
        for (number, path) in ["/*", "/rooms/*", "/rooms/big/*", "/rooms/big", "/rooms/*x"].iter().enumerate() {
            if check_path(path).is_ok() {
                group.routes.push(Route::new(path, number as u32));
            }
        }
        for (path, route) in [
            ("/", 0),
            ("/rooms", 0),
            ("/roomsx", 0),
            ("/rooms/", 1),
            ("/rooms/a/b", 1),
            ("/rooms/big", 3),
            ("/rooms/big/", 2),
            ("/rooms/big/x", 2),
            ("/rooms/bigger", 1),
            ("/Rooms/x", 0),
            ("/rooms%2Fx", 0),
        ] {
            assert_eq!(group.route_to(path), Some(route), "{path}");
        }
        group.routes.remove(0);
        assert_eq!(group.route_to("/rooms"), None);
    }

    #[test]
    fn a_path_that_no_request_has_is_refused() {
        for good in ["/", "/*", "/a", "/a/", "/a/*", "/a%20b/*", "/a//*"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["", "*", "a", "a/*", "/a*", "/*/b", "/a/*/*", "/**", "/a?b", "/a#b", "/a b", "/\u{fc}", "ws://h/a"]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
