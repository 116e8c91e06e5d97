'use strict';
// TLS: options with the names that they have in Node's https and tls, in the words of the engine.

const { coded } = require('./errors.js');
const { refuse, strings } = require('./options.js');

const isGiven = (value) => value !== undefined && value !== null && value !== false;
const invalid = (message) => coded(TypeError, 'ERR_INVALID_ARG_VALUE', message);

/** Texts in PEM, as bytes. */
function pems(name, given) {
  return (Array.isArray(given) ? given : isGiven(given) ? [given] : []).map((pem) => {
    if (typeof pem === 'string') return Buffer.from(pem);
    if (ArrayBuffer.isView(pem)) return new Uint8Array(pem.buffer, pem.byteOffset, pem.byteLength);
    throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', `The option "${name}" must be a string or a Buffer that holds PEM, or an array of them`);
  });
}

/** What servers and clients have in common. */
function shared({ cert, key, ca, ALPNProtocols }) {
  const chains = pems('cert', cert), keys = pems('key', key), issuers = pems('ca', ca);
  if (chains.length !== keys.length) {
    throw invalid(`Each certificate needs its private key: "cert" has ${chains.length}, "key" has ${keys.length}`);
  }
  return {
    certificates: chains.flatMap((chain, at) => [chain, keys[at]]),
    ca: issuers.length === 0 ? undefined : Buffer.concat(issuers.flatMap((issuer) => [issuer, Buffer.from('\n')])),
    alpn: isGiven(ALPNProtocols) ? strings('ALPNProtocols', ALPNProtocols) : undefined,
  };
}

/** Whether a server is to speak TLS. */
function isSecure({ cert, key, ca, requestCert, ALPNProtocols }) {
  return Boolean(requestCert) || [cert, key, ca, ALPNProtocols].some(isGiven);
}

/** What a server that speaks TLS is given. */
function serverTls(given) {
  refuse(given);
  const tls = shared(given), asks = Boolean(given.requestCert);
  if (tls.certificates.length === 0) throw invalid('A server that speaks TLS needs the options "cert" and "key"');
  if (asks && tls.ca === undefined) throw invalid('The option "requestCert" needs "ca": the issuers of the certificates that clients may show');
  if (tls.ca !== undefined && !asks) {
    throw invalid('The option "ca" names issuers of clients\' certificates: it needs "requestCert". The issuers of the server\'s own belong into "cert", behind it');
  }
  if (asks) tls.clientAuth = given.rejectUnauthorized === false ? 'optional' : 'required';
  return tls;
}

/** What a client is given for wss: undefined where that is nothing, so that connections share what they begin with. */
function clientTls(given) {
  const { cert, key, ca, ALPNProtocols, servername, rejectUnauthorized } = given;
  if (rejectUnauthorized !== false && ![cert, key, ca, ALPNProtocols, servername].some(isGiven)) return undefined;
  if (isGiven(servername) && typeof servername !== 'string') {
    throw coded(TypeError, 'ERR_INVALID_ARG_TYPE', 'The option "servername" must be a string');
  }
  return { ...shared(given), serverName: servername ?? undefined, dangerAcceptInvalidCertificates: rejectUnauthorized === false };
}

module.exports = { clientTls, isSecure, serverTls };
