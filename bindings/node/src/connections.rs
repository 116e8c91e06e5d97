//! Small numbers for connections: JavaScript knows each by an index, because 64 bits do not fit in its numbers.
//!
//! An index is given back only after JavaScript has heard of the Close, so what it sends before that never reaches a
//! successor. A client that connects again has one index for all its connections.

use wsx_core::{Client, Connection};

#[derive(Clone, Copy)]
struct Entry {
    connection: Connection,
    /// Whose connection it is, where that connects again.
    client: Option<Client>,
    watched: bool,
}

/// The table of them.
#[derive(Default)]
pub struct Connections {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Closed, but JavaScript does not know it yet.
    closed: Vec<u32>,
    /// Those whose output JavaScript waits for, with what it was told last.
    watched: Vec<(u32, Connection, Option<usize>)>,
}

impl Connections {
    /// Gives a connection an index, which is kept as its user data as well.
    pub fn add(&mut self, connection: Connection) -> u32 {
        let index = self.reserve();
        self.attempt(index, connection);
        index
    }

    /// An index for whatever it will be.
    pub fn reserve(&mut self) -> u32 {
        let entry = Some(Entry { connection: Connection::from_id(0), client: None, watched: false });
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        }
    }

    /// Gives back an index that JavaScript has not heard of.
    pub fn give_back(&mut self, index: u32) {
        self.entries[index as usize] = None;
        self.free.push(index);
    }

    /// The index is this client's.
    pub fn bind(&mut self, index: u32, client: Client) {
        if let Some(entry) = &mut self.entries[index as usize] {
            entry.client = Some(client);
        }
    }

    /// From now on the index means this connection, which keeps it as its user data.
    pub fn attempt(&mut self, index: u32, connection: Connection) {
        if let Some(entry) = self.entries[index as usize].as_mut().filter(|entry| entry.connection != connection) {
            (entry.connection, entry.watched) = (connection, false);
            // It is not gone, so this cannot fail.
            let _ = connection.set_user_data(u64::from(index) + 1);
        }
    }

    fn entry(&self, index: i32) -> Option<Entry> {
        usize::try_from(index).ok().and_then(|index| *self.entries.get(index)?)
    }

    /// The connection of an index; a wrong one is stale.
    pub fn at(&self, index: i32) -> Connection {
        self.entry(index).map_or(Connection::from_id(0), |entry| entry.connection)
    }

    /// The client of an index, if it is one that connects again.
    pub fn client(&self, index: i32) -> Option<Client> {
        self.entry(index)?.client
    }

    /// Takes note that a connection is closed.
    pub fn closed(&mut self, index: i32) {
        self.closed.push(index as u32);
    }

    /// JavaScript knows what is closed.
    pub fn release(&mut self) {
        for index in self.closed.drain(..) {
            self.entries[index as usize] = None;
            self.free.push(index);
        }
    }

    /// Sees to it that JavaScript is told how much waits on this connection, whenever that changes, until nothing does.
    pub fn watch(&mut self, index: i32) {
        if let Some(Some(entry)) = usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index))
            && !std::mem::replace(&mut entry.watched, true)
        {
            self.watched.push((index as u32, entry.connection, None));
        }
    }

    /// Looks at those, and tells what has changed.
    pub fn look(&mut self, mut tell: impl FnMut(u32, usize)) {
        let entries = &mut self.entries;
        self.watched.retain_mut(|(index, connection, told)| {
            let Some(entry) = entries[*index as usize].as_mut().filter(|entry| entry.connection == *connection) else {
                return false;
            };
            let amount = entry.client.map_or_else(|| connection.buffered_amount(), Client::buffered_amount);
            let Ok(amount) = amount else { return false };
            if *told != Some(amount) {
                *told = Some(amount);
                tell(*index, amount);
            }
            entry.watched = amount != 0;
            entry.watched
        });
    }
}

/// The index of a connection, from its user data; negative where it has none.
#[inline]
pub fn index_of(connection: Connection) -> i32 {
    connection.user_data().unwrap_or(0) as i32 - 1
}
