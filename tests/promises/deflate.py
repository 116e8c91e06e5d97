"""permessage-deflate (RFC 7692) at a raw peer, by Python's zlib."""
import zlib

TAIL = b"\0\0\xff\xff"      # what a sender leaves away (RFC 7692 section 7.2.1)
STEP = 256                  # inflated at once: so what a message refers to must be within the window


class Deflate:
    """Both directions of a connection, by the header of the server's answer."""

    def __init__(self, agreed, is_client):
        parameters = dict(part.strip().partition("=")[::2] for part in agreed.split(";"))
        own, other = ("client", "server") if is_client else ("server", "client")
        self.sent_bits = int(parameters.get(f"{own}_max_window_bits", 15))
        self.received_bits = int(parameters.get(f"{other}_max_window_bits", 15))
        self.keeps_sent = f"{own}_no_context_takeover" not in parameters
        self.keeps_received = f"{other}_no_context_takeover" not in parameters
        self.compressor = self.inflater = None

    def compress(self, payload):
        if self.compressor is None or not self.keeps_sent:
            self.compressor = zlib.compressobj(wbits=-self.sent_bits)
        data = self.compressor.compress(payload) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(TAIL)

    def inflate(self, data):
        if self.inflater is None or not self.keeps_received:
            self.inflater = zlib.decompressobj(wbits=-self.received_bits)
        payload, rest, piece = bytearray(), data + TAIL, bytes(STEP)
        try:
            while rest or len(piece) == STEP:
                piece = self.inflater.decompress(rest, STEP)
                payload, rest = payload + piece, self.inflater.unconsumed_tail
        except zlib.error as error:
            raise AssertionError(f"{len(data)} bytes that cannot be inflated: {error}") from None
        return bytes(payload)
