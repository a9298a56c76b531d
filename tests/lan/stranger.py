"""Somebody who is not let in, with a TLS client of its own: `stranger.py HOST PORT patient|eager [CHAIN KEY]`.

Reads bytes in hexadecimal from standard input and sends them: after the other side's first word if patient, as soon as its own side of the
handshake is over if eager. Prints as JSON what it was given before the other side hung up. Knows nothing of the product.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys

PATIENCE_S = 20.0


def main(host: str, port: str, manner: str, *files: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["chinwag/1"])
    if files:
        context.load_cert_chain(*files)
    wishes = bytes.fromhex(sys.stdin.read())
    received, ended = b"", "closed"
    try:
        with context.wrap_socket(socket.create_connection((host, int(port)), PATIENCE_S)) as tls:
            if manner == "patient":
                received = tls.recv(65536)
            tls.sendall(wishes)
            while piece := tls.recv(65536):
                received += piece
    except (ssl.SSLError, ConnectionError) as error:
        ended = str(error)
    except TimeoutError:
        ended = "still open"
    print(json.dumps({"received": received.hex(), "ended": ended}))


if __name__ == "__main__":
    main(*sys.argv[1:])
