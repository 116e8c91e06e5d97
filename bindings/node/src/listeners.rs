//! Small numbers for listeners, as `connections.rs` has them for connections. A number means a listener, and then its
//! connections, until JavaScript says that the last of them has ended.

use std::cell::Cell;
use std::rc::Rc;

use wsx_core::Listener;

/// A listener as JavaScript knows it.
#[derive(Default)]
pub struct Listening {
    /// None until it listens.
    pub listener: Cell<Option<Listener>>,
    /// Whether JavaScript answers the requests.
    pub hooked: Cell<bool>,
    /// It accepts nobody any more: not those either who had connected and not sent their request yet.
    pub closed: Cell<bool>,
}

/// The table of them.
#[derive(Default)]
pub struct Listeners {
    entries: Vec<Option<Rc<Listening>>>,
}

impl Listeners {
    /// Gives a listener a number.
    pub fn reserve(&mut self, listening: Rc<Listening>) -> u32 {
        let number = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if number == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[number] = Some(listening);
        number as u32
    }

    /// The number of a listener.
    pub fn number_of(&self, listener: Listener) -> Option<usize> {
        self.entries.iter().position(|one| one.as_ref().is_some_and(|one| one.listener.get() == Some(listener)))
    }

    /// Takes the number back.
    pub fn forget(&mut self, number: u32) {
        if let Some(entry) = self.entries.get_mut(number as usize) {
            *entry = None;
        }
    }

    /// The listener of a number.
    pub fn at(&self, number: u32) -> Option<&Rc<Listening>> {
        self.entries.get(number as usize)?.as_ref()
    }
}
