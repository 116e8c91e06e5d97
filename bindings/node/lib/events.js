'use strict';
// The browser's way to listen (onmessage, addEventListener) on top of an EventEmitter.

const WRAPPED = Symbol('the listener that was given');
const ATTRIBUTE = Symbol('set by onopen, onmessage, onerror or onclose');

class Event {
  constructor(type, target) {
    this.type = type;
    this.target = target;
  }
}

class MessageEvent extends Event {
  constructor(target, data) {
    super('message', target);
    this.data = data;
  }
}

class ErrorEvent extends Event {
  constructor(target, error) {
    super('error', target);
    this.error = error;
    this.message = error.message;
  }
}

class CloseEvent extends Event {
  constructor(target, code, reason) {
    super('close', target);
    this.code = code;
    this.reason = reason.toString();
    this.closeInfo = target.closeInfo;
    this.wasClean = this.closeInfo?.wasClean ?? false;
  }
}

// From what the emitter gives to the event object.
const EVENTS = {
  open: (target) => new Event('open', target),
  message: (target, data, isBinary) => new MessageEvent(target, isBinary ? data : data.toString()),
  error: (target, error) => new ErrorEvent(target, error),
  close: (target, code, reason) => new CloseEvent(target, code, reason),
};

const listening = {
  /**
   * Listens to `open`, `message`, `error` or `close` with an event object; other types are never told.
   * @param {string} type
   * @param {Function | { handleEvent: Function }} listener
   * @param {{ once?: boolean }} [options]
   */
  addEventListener(type, listener, options) {
    if (!Object.hasOwn(EVENTS, type) || !listener) return;
    if (this.listeners(type).some((one) => one[WRAPPED] === listener && !one[ATTRIBUTE])) return;
    add(this, type, listener, options, false);
  },

  /** Ends what `addEventListener` began. */
  removeEventListener(type, listener) {
    for (const one of this.listeners(type)) {
      if (one[WRAPPED] === listener && !one[ATTRIBUTE]) return void this.removeListener(type, one);
    }
  },
};

function add(emitter, type, listener, options, isAttribute) {
  const make = EVENTS[type];
  const wrapper = (...args) => {
    const event = make(emitter, ...args);
    if (typeof listener === 'function') listener.call(emitter, event);
    else listener.handleEvent(event);
  };
  wrapper[WRAPPED] = listener;
  wrapper[ATTRIBUTE] = isAttribute;
  if (options?.once) emitter.once(type, wrapper);
  else emitter.on(type, wrapper);
}

/** Gives a class `addEventListener`, `removeEventListener` and the four attributes. */
function mixIn(prototype) {
  for (const [name, value] of Object.entries(listening)) Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
  for (const type of Object.keys(EVENTS)) {
    Object.defineProperty(prototype, `on${type}`, {
      configurable: true,
      enumerable: true,
      get() {
        return this.listeners(type).find((one) => one[ATTRIBUTE])?.[WRAPPED] ?? null;
      },
      set(listener) {
        const old = this.listeners(type).find((one) => one[ATTRIBUTE]);
        if (old) this.removeListener(type, old);
        if (typeof listener === 'function') add(this, type, listener, undefined, true);
      },
    });
  }
}

module.exports = { mixIn };
