// TLS with real peers in both roles: certificates, whom they name and whom they do not, and what is refused.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import https from "node:https";
import { test } from "node:test";
import tls from "node:tls";
import { Agent, WebSocket as Undici } from "undici";
import * as ws from "ws";
import { WebSocket, WebSocketServer } from "../index.mjs";
import { accepted, certified, failed, inLine, leave, limit, open, pem, raw, run, serve, serveEcho } from "./support.mjs";

const ca = pem("ca");
const der = (name) => new X509Certificate(pem(name)).raw;
const nameOf = (certificate) => certificate.subject.CN;

/** A TLS connection of Node's to a server of ours, past the handshake. */
async function connect(t, server, options = {}) {
  const socket = tls.connect({ host: "127.0.0.1", port: server.address().port, ca, ...options });
  t.after(() => socket.destroy());
  await once(socket, "secureConnect");
  return socket;
}

/** An https server with a server of the package ws behind it, that sends everything back. */
async function serveHttps(t, options = certified("server")) {
  const server = https.createServer(options);
  const sockets = new ws.WebSocketServer({ server, perMessageDeflate: true });
  sockets.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  server.port = server.address().port;
  server.url = `wss://127.0.0.1:${server.port}/`;
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.close();
    server.closeAllConnections();
  });
  return server;
}

async function openWs(url, options) {
  const socket = inLine(new ws.WebSocket(url, options));
  await once(socket, "open");
  return socket;
}

async function echoes(socket) {
  for (const message of ["", "Grüße", Buffer.alloc(1 << 20, "libwsx"), "x".repeat(65_536)]) {
    socket.send(message);
    assert.deepEqual(await socket.receive(), message);
  }
  for (let i = 0; i < 1000; i++) socket.send(`${i}`);
  for (let i = 0; i < 1000; i++) assert.equal(await socket.receive(), `${i}`);
}

/** What goes wrong at once, in the constructor. */
const refused = (options, refusal) => assert.throws(() => new WebSocketServer({ host: "127.0.0.1", port: 0, ...options }).unref(), refusal);

test("ws as client: messages over TLS, and a request that says so", limit, async (t) => {
  const asked = [];
  const server = await serveEcho(t, { ...certified("server"), perMessageDeflate: true, verifyClient: (info) => asked.push(info) });
  const connection = accepted(server);
  const socket = await openWs(`wss://localhost:${server.address().port}/path?x=1`, { ca, perMessageDeflate: true });
  const { request } = await connection;
  assert.deepEqual([request.url, request.headers.host], ["/path?x=1", `localhost:${server.address().port}`]);
  assert.deepEqual([request.isSecure, request.serverName, request.peerCertificates], [true, "localhost", []]);
  const { encrypted, authorized, servername, remoteAddress } = request.socket;
  assert.deepEqual([encrypted, authorized, servername, remoteAddress], [true, false, "localhost", "127.0.0.1"]);
  assert.deepEqual(request.socket.getPeerCertificate(), {});
  assert.deepEqual(asked.map(({ secure, req }) => [secure, req === request]), [[true, true]]);
  assert.equal(socket.extensions, "permessage-deflate");
  await echoes(socket);
  assert.equal((await leave(socket)).code, 1000);
});

test("a plain request is not secure", limit, async (t) => {
  const server = await serve(t, { verifyClient: ({ secure }) => secure === false, requestCert: 0, ca: undefined, cert: null });
  const connection = accepted(server);
  await open(server.url);
  const { request } = await connection;
  assert.deepEqual([request.isSecure, request.serverName, request.peerCertificates], [false, undefined, []]);
  assert.deepEqual([request.socket.encrypted, request.socket.authorized, request.socket.servername], [false, false, undefined]);
  assert.deepEqual(request.socket.getPeerCertificate(), {});
});

test("undici as client, and a page over https", limit, async (t) => {
  const server = await serveEcho(t, { ...certified("server"), handleRequest: ({ isUpgrade }) => isUpgrade ? undefined : { body: "a page" } });
  const dispatcher = new Agent({ connect: { ca } });
  t.after(() => dispatcher.close());
  const socket = new Undici(server.url, { dispatcher });
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = (event) => reject(event.error); });
  const heard = new Promise((resolve) => { socket.onmessage = resolve; });
  socket.send("hello");
  assert.equal((await heard).data, "hello");
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  socket.close();
  await closed;
  const [response] = await once(https.get({ host: "127.0.0.1", port: server.address().port, ca, agent: false }), "response");
  let body = "";
  for await (const chunk of response.setEncoding("utf8")) body += chunk;
  assert.equal(body, "a page");
});

test("ws as server: messages over TLS, by wss: and https:", limit, async (t) => {
  const server = await serveHttps(t);
  for (const url of [server.url, `https://localhost:${server.port}/`]) {
    const socket = await open(url, [], { ca, perMessageDeflate: true });
    assert.equal(socket.extensions, "permessage-deflate");
    assert.match(socket.url, /^wss:/);
    await echoes(socket);
    assert.equal((await leave(socket)).code, 1000);
  }
});

test("without options a client trusts whom the system trusts", limit, async (t) => {
  const { url } = await serveHttps(t);
  const program = `
    import { WebSocket } from LIBWSX;
    const socket = new WebSocket(${JSON.stringify(url)});
    socket.on("open", () => { console.log("open"); socket.close(); });
    socket.on("error", (error) => console.log(error.code));
  `;
  const trusting = (name) => run(program, { env: { SSL_CERT_FILE: new URL(`../../../build/certificates/${name}.pem`, import.meta.url).pathname } });
  assert.deepEqual(await trusting("ca"), { status: 0, stdout: "open\n", stderr: "" });
  assert.deepEqual(await trusting("foreign-ca"), { status: 0, stdout: "UNABLE_TO_VERIFY_LEAF_SIGNATURE\n", stderr: "" });
});

test("a certificate that is not good is an error in Node's code and the engine's words", limit, async (t) => {
  for (const [name, options, code, message] of [
    ["foreign", { ca }, "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "TLS: the server's certificate is from an unknown issuer, or self-signed: name its issuer by the option ca"],
    ["server", { ca: pem("foreign-ca") }, "UNABLE_TO_VERIFY_LEAF_SIGNATURE", /unknown issuer/],
    ["expired", { ca }, "CERT_HAS_EXPIRED", /expired.*this machine's clock/],
    ["second", { ca }, "ERR_TLS_CERT_ALTNAME_INVALID", /not valid for name .*127\.0\.0\.1/],
    ["server", { ca, servername: "second.example" }, "ERR_TLS_CERT_ALTNAME_INVALID", /second\.example/],
  ]) {
    const server = await serve(t, certified(name));
    const { error, code: close } = await failed(new WebSocket(server.url, options));
    assert.deepEqual([error.code, error.stage, error.kind, close], [code, "tls", "refused", 1006], name);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    assert.equal(server.clients.size, 0);
  }
});

test("servername names the certificate, ca may have many, and rejectUnauthorized: false takes any", limit, async (t) => {
  for (const [name, options] of [
    ["second", { ca, servername: "second.example" }],
    ["second", { ca, servername: "any.wild.example" }],
    ["foreign", { ca: [ca, pem("foreign-ca").toString()] }],
    ["foreign", { rejectUnauthorized: false }],
    ["expired", { rejectUnauthorized: false }],
    ["second", { rejectUnauthorized: false, ca }],
  ]) {
    const server = await serveEcho(t, certified(name));
    const connection = accepted(server);
    const socket = await open(server.url, [], options);
    assert.equal((await connection).request.serverName, options.servername);
    socket.send("hello");
    assert.equal(await socket.receive(), "hello");
  }
});

test("of several certificates the one is shown that the client asks for by name", limit, async (t) => {
  const server = await serve(t, {
    cert: [pem("server").toString(), pem("second")], key: [pem("server-key"), new Uint8Array(pem("second-key"))],
  });
  for (const [servername, shown] of [["localhost", "a server"], ["second.example", "a second"], ["any.wild.example", "a second"]]) {
    assert.equal(nameOf((await connect(t, server, { servername })).getPeerCertificate()), shown);
  }
  const unknown = await connect(t, server, { servername: "unknown.example", checkServerIdentity: () => {} });
  assert.equal(nameOf(unknown.getPeerCertificate()), "a server");
});

test("requestCert: who has no certificate of theirs is refused, and verifyClient sees whose it is", limit, async (t) => {
  const seen = [];
  const server = await serveEcho(t, {
    ...certified("server"), ca, requestCert: true,
    verifyClient({ req }) {
      seen.push([nameOf(req.socket.getPeerCertificate()), req.socket.authorized, req.peerCertificates[0]]);
      return true;
    },
  });
  const peers = { ws: openWs, libwsx: (url, options) => open(url, [], options) };
  for (const [name, opened] of Object.entries(peers)) {
    const socket = await opened(server.url, { ca, ...certified("client") });
    assert.deepEqual(seen.pop(), ["a client", true, der("client")], name);
    socket.send("hello");
    assert.equal(await socket.receive(), "hello");
  }
  const { error } = await failed(new WebSocket(server.url, { ca }));
  assert.deepEqual([error.code, error.stage, error.kind], ["WSX_ERR_TLS", "tls", "refused"]);
  assert.match(error.message, /certificate_required|it wants a certificate/);
  assert.equal((await failed(new WebSocket(server.url, { ca, ...certified("foreign") }))).error.stage, "tls");
  await once(new ws.WebSocket(server.url, { ca }), "error");
  assert.deepEqual(seen, []);
});

test("rejectUnauthorized: false on a server takes who has no certificate, and nobody with a wrong one", limit, async (t) => {
  const server = await serve(t, { ...certified("server"), ca: [ca], requestCert: true, rejectUnauthorized: false });
  for (const [options, authorized] of [[{}, false], [certified("client"), true]]) {
    const connection = accepted(server);
    await open(server.url, [], { ca, ...options });
    const { request } = await connection;
    assert.equal(request.socket.authorized, authorized);
    assert.equal(request.socket.getPeerCertificate().raw?.equals(der("client")) ?? false, authorized);
  }
  assert.equal((await failed(new WebSocket(server.url, { ca, ...certified("foreign") }))).error.stage, "tls");
});

test("ALPNProtocols are agreed on, and http/1.1 is without them", limit, async (t) => {
  const usual = await serve(t, certified("server"));
  assert.equal((await connect(t, usual, { ALPNProtocols: ["h2", "http/1.1"] })).alpnProtocol, "http/1.1");
  const special = await serve(t, { ...certified("server"), ALPNProtocols: ["chat", "http/1.1"] });
  assert.equal((await connect(t, special, { ALPNProtocols: ["http/1.1", "chat"] })).alpnProtocol, "chat");
  await leave(await open(special.url, [], { ca, ALPNProtocols: ["chat"] }));
  const { error } = await failed(new WebSocket(special.url, { ca, ALPNProtocols: ["other"] }));
  assert.deepEqual([error.code, error.stage], ["WSX_ERR_TLS", "tls"]);
});

test("TLS to a plain port, and plain HTTP to one of TLS, are told what is wrong", limit, async (t) => {
  const plain = await serve(t);
  const { error } = await failed(new WebSocket(plain.url.replace("ws:", "wss:"), { ca }));
  assert.deepEqual([error.code, error.stage, error.kind], ["WSX_ERR_TLS", "tls", "protocol"]);
  assert.match(error.message, /is it a ws:\/\/ port, without TLS\?$/);
  const secure = await serve(t, certified("server"));
  const { error: other } = await failed(new WebSocket(secure.url.replace("wss:", "ws:")));
  assert.deepEqual([other.statusCode, other.stage], [400, "http"]);
  const peer = await raw(secure);
  assert.match(peer.head, /^HTTP\/1\.1 400 /);
  assert.match((await peer.until((all) => all.includes("\n"))).toString(), /this port speaks TLS/);
  peer.destroy();
});

test("setSecureContext under traffic: new connections get the new certificate, and no message is lost", limit, async (t) => {
  const server = await serveEcho(t, certified("server"));
  const old = await open(server.url, [], { ca });
  let sent = 0, received = 0;
  for (const name of ["renewed", "server", "renewed"]) {
    for (let i = 0; i < 200; i++) old.send(`${sent++}`);
    server.setSecureContext(certified(name));
    for (let i = 0; i < 200; i++) old.send(`${sent++}`);
    assert.equal(nameOf((await connect(t, server)).getPeerCertificate()), `a ${name}`);
    const fresh = await open(server.url, [], { ca });
    fresh.send("new");
    assert.equal(await fresh.receive(), "new");
  }
  while (received < sent) assert.equal(await old.receive(), `${received++}`);
});

test("setSecureContext keeps requestCert, and where it throws nothing has changed", limit, async (t) => {
  const server = await serve(t, { ...certified("server"), ca, requestCert: true });
  const client = { ca, ...certified("client") };
  server.setSecureContext({ ...certified("renewed"), ca });
  assert.equal((await failed(new WebSocket(server.url, { ca }))).error.stage, "tls");
  for (const [options, refusal] of [
    [{ cert: pem("server"), key: pem("client-key"), ca }, { name: "TypeError", code: "ERR_INVALID_ARG_VALUE", message: /key in the text given does not belong to the certificate/ }],
    [certified("server"), { code: "ERR_INVALID_ARG_VALUE", message: /"requestCert" needs "ca"/ }],
    [{ ca }, { code: "ERR_INVALID_ARG_VALUE", message: /needs the options "cert" and "key"/ }],
    [{ pfx: Buffer.alloc(1) }, { code: "WSX_ERR_UNSUPPORTED", message: /"pfx"/ }],
  ]) assert.throws(() => server.setSecureContext(options), refusal);
  assert.equal(nameOf((await connect(t, server, client)).getPeerCertificate()), "a renewed");
  server.setSecureContext({ ...certified("server"), requestCert: false });
  server.setSecureContext(certified("renewed"));
  await open(server.url, [], { ca });
  const plain = await serve(t);
  assert.throws(() => plain.setSecureContext(certified("server")), { name: "TypeError", message: /the listener is plain/ });
  plain.close();
  assert.throws(() => plain.setSecureContext(certified("server")), { code: "WSX_ERR_CLOSED" });
});

test("a server's certificate that cannot be used is refused where it listens", limit, () => {
  const { cert, key } = certified("server");
  const encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
  const because = (message) => ({ name: "TypeError", code: "ERR_INVALID_ARG_VALUE", message });
  refused({ cert, key: pem("client-key") }, because("invalid argument: the key in the text given does not belong to the certificate in the text given"));
  refused({ cert: "server.pem", key }, because("invalid argument: the text given holds no certificate in PEM"));
  refused({ cert, key: encrypted }, because(/encrypted private key, which is not read: decrypt it first/));
  refused({ cert }, because('Each certificate needs its private key: "cert" has 1, "key" has 0'));
  refused({ cert: [cert, cert], key }, because(/"cert" has 2, "key" has 1/));
  refused({ ALPNProtocols: ["chat"] }, because(/needs the options "cert" and "key"/));
  refused({ cert, key, requestCert: true }, because(/"requestCert" needs "ca"/));
  refused({ cert, key, ca }, because(/"ca" names issuers of clients' certificates: it needs "requestCert"/));
  refused({ cert, key: { pem: key, passphrase: "secret" } }, { name: "TypeError", code: "ERR_INVALID_ARG_TYPE", message: /"key" must be a string or a Buffer that holds PEM/ });
  refused({ cert, key, ALPNProtocols: [Buffer.from("chat")] }, { code: "ERR_INVALID_ARG_TYPE", message: /ALPNProtocols/ });
});

test("a client's certificate that cannot be used is an error before anything is sent", limit, async () => {
  for (const [options, message] of [[{ ca: "nothing" }, /holds no certificate in PEM/], [{ cert: pem("client"), key: pem("server-key") }, /does not belong/]]) {
    const { error, code } = await failed(new WebSocket("wss://127.0.0.1:1", options));
    assert.deepEqual([error.code, code], ["ERR_INVALID_ARG_VALUE", 1006]);
    assert.match(error.message, message);
  }
  assert.throws(() => new WebSocket("wss://127.0.0.1:1", { cert: pem("client") }), { message: /"cert" has 1, "key" has 0/ });
  assert.throws(() => new WebSocket("wss://127.0.0.1:1", { servername: 1 }), { code: "ERR_INVALID_ARG_TYPE", message: /servername/ });
});

test("options of Node's TLS that are not there are refused with what to do instead", limit, () => {
  for (const [name, value, advice] of [
    ["passphrase", "secret", /decrypt the key first/], ["pfx", Buffer.alloc(1), /"cert" and "key"/], ["SNICallback", () => {}, /arrays of "cert" and "key"/],
    ["secureContext", tls.createSecureContext(), /"cert", "key" and "ca"/], ["server", https.createServer(), /"port", for TLS with "cert" and "key"/],
    ["checkServerIdentity", () => {}, /"servername"/], ["agent", new https.Agent(), /"rejectUnauthorized"/], ["crl", "text", /revoked/],
    ["minVersion", "TLSv1.3", /TLS 1\.2 and 1\.3/], ["ciphers", "ALL", /TLS 1\.2 and 1\.3/],
  ]) {
    const refusal = { name: "TypeError", code: "WSX_ERR_UNSUPPORTED", message: advice };
    refused({ ...certified("server"), [name]: value }, refusal);
    assert.throws(() => new WebSocket("wss://127.0.0.1:1", { [name]: value }), { ...refusal, message: new RegExp(`^The option "${name}" is not supported`) });
  }
});
