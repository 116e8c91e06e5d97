'use strict';
// A message that is encoded once, to be sent many times.

const { sendable, textual } = require('./arguments.js');
const { bytesOf } = require('./border.js');
const { translate } = require('./errors.js');
const { load } = require('./native.js');

/** A message for `sendShared`. It is copied. */
class SharedMessage {
  #encoded;

  constructor(data, options) {
    data = sendable(data);
    const { Encoded } = load();
    try {
      this.#encoded = new Encoded(textual(data, options), bytesOf(data));
    } catch (error) {
      throw translate(error);
    }
  }

  /** What the engine knows it by. */
  static encodedOf(shared) { return shared.#encoded; }
}

module.exports = { SharedMessage };
