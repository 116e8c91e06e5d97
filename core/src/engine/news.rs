//! What waits to be told is told between callbacks, when no borrow of the state is held.

use super::callback::{Panicked, guarded, with_handler};
use super::group::Group;
use super::logging::tell_record;
use super::opening::serve_deferred;
use super::reconnecting;
use super::record::{Ending, Phase};
use super::shared::LoopCell;
use super::state::{News, State};
use crate::close::{self, Close, Side};
use crate::error::{Failure, FailureKind, Result, Stage};
use crate::event::{Connection, ReadyState};
use crate::log::Level;

/// Tells what waits to be told, up to what these callbacks cause themselves.
#[inline(never)]
pub(super) fn tell_news(cell: &LoopCell) {
    let count = cell.state().news.len();
    for _ in 0..count {
        let news = cell.state().news.pop_front();
        cell.measure();
        match news {
            None => return,
            Some(News::Drain(id)) => tell_drain(cell, id),
            Some(News::Closed(slot)) => tell_close(cell, slot),
            Some(News::GaveUp(group)) => reconnecting::tell_give_up(cell, group),
            Some(News::ListenerError(group, failure)) => {
                let found = cell.state().groups.get(group).map(|group| (group.listener, group.counters.clone()));
                let Some((listener, counters)) = found else { continue };
                counters.listener_errors.add(1);
                cell.state().log_listener(Level::Error, listener, || failure.to_string());
                let told = with_handler(cell, group, |handler| handler.on_listener_error(listener, &failure));
                look_for_panic(cell, "on_listener_error", told);
            }
            Some(News::Answered(id, response)) => serve_deferred(cell, id, *response),
            Some(News::Unanswered(group, id)) => {
                with_handler(cell, group, |handler| handler.after_deferral(Connection(id), false));
            }
            Some(News::Record(entry)) => tell_record(cell, &entry),
            // Its own drop may call anything.
            Some(News::OldLog(log)) => drop(guarded(|| drop(log))),
            Some(News::IdleGroup(group)) => {
                let idle = cell.state().take_idle_group(group);
                // The handler's own drop may call anything.
                drop(guarded(|| drop(idle)));
            }
        }
        cell.measured();
    }
}

/// There is no connection any more that a panic here could close.
pub(super) fn look_for_panic(cell: &LoopCell, callback: &str, told: Option<Result<(), Panicked>>) {
    if let Some(Err(panicked)) = told {
        cell.state().log_panic(callback, &panicked);
    }
}

fn tell_drain(cell: &LoopCell, id: u64) {
    let found = {
        let state = cell.state();
        let slot = state.connections.slot(id);
        slot.and_then(|slot| state.connections.get(slot).map(|record| (slot, record.group, record.phase)))
    };
    let Some((slot, group, Phase::WebSocket | Phase::Stream)) = found else { return };
    if cell.state().ready_state(Connection(id)) != ReadyState::Open {
        return;
    }
    if let Some(Err(panicked)) = with_handler(cell, group, |handler| handler.on_drain(Connection(id))) {
        cell.state().callback_failed(slot, panicked);
    }
}

fn tell_close(cell: &LoopCell, slot: u32) {
    let taken = cell.state().take_ending(slot);
    if let Some((connection, group, ending, Undelivered { messages, lost_messages, unsent_bytes })) = taken {
        cell.state().count_ending(slot, &ending);
        let close = Close {
            code: ending.code,
            reason: &ending.reason,
            was_clean: ending.was_clean,
            by: ending.by,
            failure: ending.failure.as_ref(),
            undelivered_messages: messages,
            lost_messages,
            unsent_bytes,
        };
        if let Some(failure) = close.failure {
            let told = with_handler(cell, group, |handler| handler.on_error(connection, failure));
            look_for_panic(cell, "on_error", told);
        }
        let told = with_handler(cell, group, |handler| handler.on_close(connection, &close));
        look_for_panic(cell, "on_close", told);
        cell.state().log_ending(slot, &close);
        reconnecting::connection_closed(cell, group, &close);
    }
    cell.state().remove(slot);
}

/// What the program sent and the peer did not get, as far as the kernel tells.
struct Undelivered {
    /// The lost ones among them.
    messages: u64,
    lost_messages: u32,
    unsent_bytes: u64,
}

impl State {
    /// What is to be told of a connection that is dead, if the program knows it.
    fn take_ending(&mut self, slot: u32) -> Option<(Connection, u32, Box<Ending>, Undelivered)> {
        let connection = Connection(self.connections.id(slot));
        let record = self.connections.get_mut(slot)?;
        if !record.announced() {
            return None;
        }
        let waiting = record.outbox.len() as u64;
        record.outbox = Default::default();
        let group = record.group;
        let extra = record.extra();
        let mut ending =
            extra.ending.take().unwrap_or_else(|| Box::new(Ending::orderly(close::ABNORMAL, "", Side::Us, false)));
        let unsent = waiting + extra.dropped_bytes;
        if ending.was_clean && unsent > 0 {
            let message = format!("the connection ended before the peer took {unsent} bytes that waited for it");
            ending.was_clean = false;
            ending.failure = Some(Failure::new(Stage::WebSocket, FailureKind::Transport, message));
        }
        let lost_messages = extra.lost_messages;
        let messages = extra.unwritten_messages + u64::from(lost_messages);
        Some((connection, group, ending, Undelivered { messages, lost_messages, unsent_bytes: unsent }))
    }

    /// Removes a group that listens no more, has no connections, and makes none.
    fn take_idle_group(&mut self, slot: u32) -> Option<Group> {
        let group = self.groups.get(slot)?;
        if group.acceptor.is_some() || group.persistent.is_some() || group.records != 0 || self.is_route(slot) {
            return None;
        }
        if self.shared.counted.end(group.listener) {
            self.listeners -= 1;
        }
        // With the listener goes what it has led to.
        self.news.extend(group.routes.iter().map(|route| News::IdleGroup(route.group)));
        self.shared_listeners.remove(&group.listener);
        if self.latest.slot == slot {
            self.latest.forget(&mut self.groups);
        }
        self.groups.remove(slot)
    }
}
