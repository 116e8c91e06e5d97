//! Broadcast and publish: encoded once, shared, and in the order of the calls on every connection.
//!
//! Messages to the same audience gather in one pending batch. Whatever would overtake it (a send, a Close, a change of
//! who belongs to the audience, a message to another audience) first settles it: every receiver's outbox gets a
//! reference to the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::outbox::MAX_WRITE;
use super::record::Phase;
use super::state::State;
use crate::config::MAX_TOPIC_NAME;
use crate::error::{Error, Result};
use crate::event::{Connection, Listener, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::frame::{self, Role};

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// The open server connections of the loop.
    Loop,
    /// Those of a listener.
    Group(u32),
    /// The subscribers of a topic.
    Topic(u32),
}

/// Messages to one audience that no outbox has yet.
#[derive(Debug)]
pub(super) struct Batch {
    audience: Audience,
    except: Option<u32>,
    frames: Vec<u8>,
    messages: u32,
}

/// A connection's place in a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    topic: u32,
    /// The index among the topic's subscribers.
    index: u32,
}

#[derive(Debug, Default)]
struct Topic {
    name: Box<str>,
    subscribers: Vec<u32>,
}

/// The topics that have subscribers.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: HashMap<Box<str>, u32>,
    topics: Vec<Topic>,
    free: Vec<u32>,
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_TOPIC_NAME {
        return Err(Error::invalid(format!("a topic's name has 1 to {MAX_TOPIC_NAME} bytes, this one {}", name.len())));
    }
    Ok(())
}

impl State {
    pub(super) fn subscribe(&mut self, connection: Connection, name: &str) -> Result<()> {
        check_name(name)?;
        let slot = self.slot(connection)?;
        self.settle();
        let limit = self.group_of(slot).map_or(0, |group| group.options.max_topics);
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        if record.protocol.role() == Role::Client || record.phase == Phase::Stream {
            return Err(Error::WrongKind("topics are for the WebSocket connections of a server"));
        }
        record.protocol.check_open()?;
        let known = self.topics.by_name.get(name).copied();
        let subscriptions = record.subscriptions.get_or_insert_default();
        if known.is_some_and(|topic| subscriptions.iter().any(|subscription| subscription.topic == topic)) {
            return Ok(());
        }
        if subscriptions.len() >= limit {
            return Err(Error::invalid(format!("the connection subscribes to {limit} topics already (max_topics)")));
        }
        let topic = known.unwrap_or_else(|| {
            let topic = self.topics.free.pop().unwrap_or_else(|| {
                self.topics.topics.push(Topic::default());
                self.topics.topics.len() as u32 - 1
            });
            self.topics.topics[topic as usize].name = name.into();
            self.topics.by_name.insert(name.into(), topic);
            topic
        });
        let subscribers = &mut self.topics.topics[topic as usize].subscribers;
        subscriptions.push(Subscription { topic, index: subscribers.len() as u32 });
        subscribers.push(slot);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, connection: Connection, name: &str) -> Result<()> {
        check_name(name)?;
        let slot = self.slot(connection)?;
        self.settle();
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let Some(topic) = self.topics.by_name.get(name).copied() else { return Ok(()) };
        let Some(subscriptions) = record.subscriptions.as_mut() else { return Ok(()) };
        let Some(at) = subscriptions.iter().position(|subscription| subscription.topic == topic) else { return Ok(()) };
        let subscription = subscriptions.swap_remove(at);
        self.leave_topic(subscription);
        Ok(())
    }

    pub(super) fn unsubscribe_all(&mut self, slot: u32) {
        let subscriptions = self.connections.get_mut(slot).and_then(|record| record.subscriptions.take());
        for subscription in subscriptions.into_iter().flat_map(|subscriptions| *subscriptions) {
            self.leave_topic(subscription);
        }
    }

    fn leave_topic(&mut self, Subscription { topic: number, index }: Subscription) {
        let topic = &mut self.topics.topics[number as usize];
        topic.subscribers.swap_remove(index as usize);
        if let Some(moved) = topic.subscribers.get(index as usize)
            && let Some(record) = self.connections.get_mut(*moved)
            && let Some(subscriptions) = &mut record.subscriptions
            && let Some(subscription) = subscriptions.iter_mut().find(|subscription| subscription.topic == number)
        {
            subscription.index = index;
        }
        if topic.subscribers.is_empty() {
            let topic = std::mem::take(topic);
            self.topics.by_name.remove(&topic.name);
            self.topics.free.push(number);
        }
    }

    pub(super) fn subscriber_count(&self, name: &str) -> usize {
        let topic = self.topics.by_name.get(name);
        topic.map_or(0, |topic| self.topics.topics[*topic as usize].subscribers.len())
    }

    pub(super) fn publish(&mut self, name: &str, message: Message<'_>, except: Option<Connection>) -> Result<()> {
        check_name(name)?;
        if let Some(topic) = self.topics.by_name.get(name).copied() {
            self.enqueue(Audience::Topic(topic), message, except);
        }
        Ok(())
    }

    pub(super) fn broadcast(
        &mut self,
        to: Option<Listener>,
        message: Message<'_>,
        except: Option<Connection>,
    ) -> Result<()> {
        let audience = match to {
            Some(listener) => Audience::Group(self.groups.slot(listener.0).ok_or(Error::Closed)?),
            None => Audience::Loop,
        };
        self.enqueue(audience, message, except);
        Ok(())
    }

    fn enqueue(&mut self, audience: Audience, message: Message<'_>, except: Option<Connection>) {
        let except = except.and_then(|connection| self.connections.slot(connection.0));
        let fits =
            |batch: &Batch| batch.audience == audience && batch.except == except && batch.frames.len() < MAX_WRITE;
        if !self.batch.as_ref().is_some_and(fits) {
            self.settle();
        }
        let batch = self.batch.get_or_insert_with(|| Batch { audience, except, frames: Vec::new(), messages: 0 });
        batch.messages += 1;
        frame::append(&mut batch.frames, message_opcode(message), true, message.payload(), None);
    }

    /// Gives the pending batch to the outboxes of its receivers: something is about to overtake it.
    #[inline]
    pub(super) fn settle(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.settle_batch(batch, Self::push_shared);
        }
    }

    /// The same at the end of a turn, when nothing can overtake it any more: it is written to its receivers.
    pub(super) fn settle_and_write(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.settle_batch(batch, Self::write_shared);
        }
    }

    fn settle_batch(&mut self, batch: Batch, give: impl Fn(&mut Self, u32, &Arc<Vec<u8>>, u32)) {
        let Batch { audience, except, frames, messages } = batch;
        let frames = Arc::new(frames);
        match audience {
            Audience::Loop => {
                for group in self.groups.slots() {
                    self.settle_list(Audience::Group(group), except, |state, slot| {
                        give(state, slot, &frames, messages)
                    });
                }
            }
            one => self.settle_list(one, except, |state, slot| give(state, slot, &frames, messages)),
        }
    }

    /// Walks the receivers by index, for closing a slow one changes the list: its place is taken by the last one, which
    /// is looked at there.
    #[inline]
    fn settle_list(&mut self, audience: Audience, except: Option<u32>, give: impl Fn(&mut Self, u32)) {
        let mut index = 0;
        while let Some(slot) = self.receiver(audience, index) {
            if Some(slot) != except {
                give(self, slot);
            }
            if self.receiver(audience, index) == Some(slot) {
                index += 1;
            }
        }
    }

    #[inline]
    fn receiver(&self, audience: Audience, index: usize) -> Option<u32> {
        let receivers = match audience {
            Audience::Loop => return None,
            Audience::Group(group) => &self.groups.get(group)?.members,
            Audience::Topic(topic) => &self.topics.topics.get(topic as usize)?.subscribers,
        };
        receivers.get(index).copied()
    }
}
