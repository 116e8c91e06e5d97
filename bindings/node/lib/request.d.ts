// An HTTP request, as the hooks and the connections of a server see it, and what hooks answer.

import { PeerCertificate } from "node:tls";

/** An HTTP request, in the words of `http.IncomingMessage`. */
export class Request {
  private constructor();
  readonly httpVersion: "1.1";
  readonly method: string;
  /** Path and query, as they came. */
  readonly url: string;
  /** The path, as it came. */
  readonly path: string;
  /** The parameters of the query, decoded; parsed anew each time. */
  readonly query: URLSearchParams;
  /**
   * The cookies by their names, in an object without a prototype; of several of one name the first. Values are as they
   * came, quotes too; what is no cookie or no UTF-8 is left out. Parsed when it is first asked for.
   */
  readonly cookies: Record<string, string | undefined>;
  /** By names in lower case, joined as Node joins them. */
  readonly headers: Record<string, string> & { "set-cookie"?: string[] };
  /** Names and values, in the order they came. */
  readonly rawHeaders: string[];
  /** Aborted where the client leaves, or its time is over, before a hook that answers by a promise has answered. */
  readonly signal: AbortSignal;
  /** Whether this is an opening handshake, rather than a plain request. */
  readonly isUpgrade: boolean;
  /** Whether it came over TLS that ends here, rather than at a proxy. */
  readonly isSecure: boolean;
  /** The name that the client asked for (SNI), in lower case; undefined without TLS, and for an address. */
  readonly serverName: string | undefined;
  /** The client's certificate, which is verified, and those of its issuers that it sent, in DER. See `requestCert`. */
  readonly peerCertificates: Buffer[];
  /** Where the peer is, and the above in the words of `tls.TLSSocket`. */
  readonly socket: Peer;
  /** Another name of `socket`. */
  readonly connection: Peer;
}

export interface Peer {
  /** Undefined for a Unix socket. */
  remoteAddress: string | undefined;
  remotePort: number | undefined;
  remoteFamily: "IPv4" | "IPv6" | undefined;
  encrypted: boolean;
  /** Whether the client has shown a certificate, which is verified then. */
  authorized: boolean;
  servername: string | undefined;
  /** The client's certificate, as Node shows it; `{}` where there is none. */
  getPeerCertificate(): Partial<PeerCertificate>;
}

/** Now, or later. */
export type Later<T> = T | PromiseLike<T>;

export interface VerifyInfo {
  origin: string | undefined;
  secure: boolean;
  req: Request;
}
