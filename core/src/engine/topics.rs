//! Broadcast and publish: encoded once, shared, and in the order of the calls on every connection.
//!
//! Messages to the same audience gather in one pending batch. Whatever would overtake it (a send, a Close, a change of
//! who belongs to the audience, a message to another audience) first settles it: every receiver's outbox gets a
//! reference to the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::compressing::Variants;
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

/// Who is meant, in the words of the program: on every loop that serves together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// All server connections.
    All,
    /// Those of a listener.
    Listener(Listener),
    /// The subscribers of a topic.
    Topic(&'a str),
}

/// The same, kept.
#[derive(Debug)]
pub(super) enum OwnedTarget {
    All,
    Listener(Listener),
    Topic(Box<str>),
}

impl Target<'_> {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Target::Topic(name) => check_name(name),
            Target::All | Target::Listener(_) => Ok(()),
        }
    }

    pub(super) fn to_owned(self) -> OwnedTarget {
        match self {
            Target::All => OwnedTarget::All,
            Target::Listener(listener) => OwnedTarget::Listener(listener),
            Target::Topic(name) => OwnedTarget::Topic(name.into()),
        }
    }
}

impl OwnedTarget {
    pub(super) fn borrow(&self) -> Target<'_> {
        match self {
            Self::All => Target::All,
            Self::Listener(listener) => Target::Listener(*listener),
            Self::Topic(name) => Target::Topic(name),
        }
    }
}

/// Messages to one audience that no outbox has yet.
#[derive(Debug)]
pub(super) struct Batch {
    /// Where they go on this loop; nowhere, if only siblings have subscribers.
    audience: Option<Audience>,
    /// Where they go on siblings, which have not got them yet.
    elsewhere: Option<OwnedTarget>,
    except: Option<Connection>,
    pub(super) frames: Arc<Vec<u8>>,
    pub(super) messages: u32,
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
        let Some(options) = self.group_of(slot).map(|group| &group.options) else { return Err(Error::Closed) };
        let (limit, longest) = (options.max_topics, options.max_topic_name);
        if longest != 0 && name.len() > longest {
            let size = name.len();
            return Err(Error::invalid(format!(
                "a topic's name has {longest} bytes at most (max_topic_name), this one {size}"
            )));
        }
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

    /// Sends a message to an audience, here and on the siblings.
    pub(super) fn publish(
        &mut self,
        target: Target<'_>,
        message: Message<'_>,
        except: Option<Connection>,
    ) -> Result<()> {
        let audience = self.audience(target)?;
        let is_shared = self.shared.has_siblings();
        if is_shared {
            self.check_siblings(message.payload().len() + frame::MAX_HEADER)?;
        } else if audience.is_none() {
            return Ok(());
        }
        let batch = self.batch_for(audience, is_shared.then_some(target), except);
        batch.messages += 1;
        frame::append(Arc::make_mut(&mut batch.frames), message_opcode(message), true, message.payload(), None);
        Ok(())
    }

    /// Sends frames that were encoded elsewhere to an audience here.
    pub(super) fn enqueue_encoded(
        &mut self,
        target: Target<'_>,
        frames: &Arc<Vec<u8>>,
        messages: u32,
        except: Option<Connection>,
    ) -> Result<()> {
        let audience = self.audience(target)?;
        if audience.is_some() {
            let batch = self.batch_for(audience, None, except);
            batch.messages += messages;
            if batch.frames.is_empty() {
                batch.frames = frames.clone();
            } else {
                Arc::make_mut(&mut batch.frames).extend_from_slice(frames);
            }
        }
        Ok(())
    }

    /// Who is meant on this loop; none for a topic without subscribers here.
    fn audience(&self, target: Target<'_>) -> Result<Option<Audience>> {
        Ok(match target {
            Target::All => Some(Audience::Loop),
            Target::Listener(listener) => match self.group_slot(listener) {
                Ok(group) => Some(Audience::Group(group)),
                // Siblings may have connections of it.
                Err(_) if self.shared.has_siblings() => None,
                Err(error) => return Err(error),
            },
            Target::Topic(name) => self.topics.by_name.get(name).copied().map(Audience::Topic),
        })
    }

    /// The pending batch to this audience; any other is settled.
    fn batch_for(
        &mut self,
        audience: Option<Audience>,
        elsewhere: Option<Target<'_>>,
        except: Option<Connection>,
    ) -> &mut Batch {
        let fits = |batch: &Batch| {
            batch.audience == audience
                && batch.except == except
                && batch.elsewhere.as_ref().map(OwnedTarget::borrow) == elsewhere
                && batch.frames.len() < MAX_WRITE
        };
        if !self.batch.as_ref().is_some_and(fits) {
            self.settle();
        }
        self.is_busy = true;
        self.batch.get_or_insert_with(|| Batch {
            audience,
            elsewhere: elsewhere.map(Target::to_owned),
            except,
            frames: Arc::default(),
            messages: 0,
        })
    }

    /// Gives gathered answers and the pending batch to the outboxes of their receivers: something is about to overtake them.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.gathers {
            self.spread_gathered();
        }
        if self.batch.is_some() {
            self.settle_batch::<false>();
        }
    }

    /// The same at the end of a turn, when nothing can overtake it any more: it is written to its receivers.
    #[inline]
    pub(super) fn settle_and_write(&mut self) {
        if self.batch.is_some() {
            self.settle_batch::<true>();
        }
    }

    #[inline(never)]
    fn settle_batch<const WRITES: bool>(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if let Some(target) = &batch.elsewhere {
            self.pass_on(target.borrow(), &batch.frames, batch.messages, batch.except);
        }
        let except = batch.except.and_then(|connection| self.connections.slot(connection.0));
        let has_ways = self.may_compress || self.in_message != 0;
        let mut variants = has_ways.then(Variants::default);
        match batch.audience {
            None => {}
            Some(Audience::Loop) => {
                for group in self.groups.slots() {
                    self.settle_list::<WRITES>(Audience::Group(group), except, &batch, variants.as_mut());
                }
            }
            Some(one) => self.settle_list::<WRITES>(one, except, &batch, variants.as_mut()),
        }
    }

    /// Gives a batch to one audience, and counts it: by the batch where all receivers belong to one listener and get the
    /// same bytes, for a delivery is so little that counting each would be felt.
    fn settle_list<const WRITES: bool>(
        &mut self,
        audience: Audience,
        except: Option<u32>,
        batch: &Batch,
        variants: Option<&mut Variants>,
    ) {
        let is_of_one = matches!(audience, Audience::Group(_)) || self.listeners == 1;
        if !is_of_one || variants.is_some() {
            self.walk::<WRITES, true>(audience, except, batch, variants);
            return;
        }
        let group = self.receiver(audience, 0).and_then(|slot| self.connections.get(slot)).map(|record| record.group);
        let written = self.walk::<WRITES, false>(audience, except, batch, variants);
        if let Some(group) = group.and_then(|group| self.groups.get(group)) {
            group.counters.messages_sent.add(written as u64 * u64::from(batch.messages));
            group.counters.bytes_sent.add((written * batch.frames.len()) as u64);
        }
    }

    /// Walks the receivers by index, for closing a slow one changes the list: its place is taken by the last one, which
    /// is looked at there. Tells to how many all was written; what did not go so smoothly is counted where it goes.
    fn walk<const WRITES: bool, const COUNTS_EACH: bool>(
        &mut self,
        audience: Audience,
        except: Option<u32>,
        batch: &Batch,
        mut variants: Option<&mut Variants>,
    ) -> usize {
        let (mut index, mut others) = (0, 0);
        while let Some(slot) = self.receiver(audience, index) {
            if Some(slot) == except {
                index += 1;
                others += 1;
                continue;
            }
            let is_written = match &mut variants {
                None if WRITES => self.write_shared(slot, &batch.frames, batch.messages),
                None => self.push_shared(slot, &batch.frames, batch.messages),
                Some(variants) => self.give_in_its_way::<WRITES>(slot, &batch.frames, batch.messages, variants),
            };
            if is_written {
                index += 1;
                if COUNTS_EACH && variants.is_none() {
                    self.count_sent_messages(slot, batch.messages);
                    self.count_sent_bytes(slot, batch.frames.len());
                }
            } else if self.receiver(audience, index) == Some(slot) {
                index += 1;
                others += 1;
            }
        }
        index - others
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
