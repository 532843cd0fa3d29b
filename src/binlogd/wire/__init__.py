"""The MySQL client/server protocol, sans-I/O.

Bytes go in (``receive``), bytes come out (``data_to_send``), and nothing here knows a socket, an event loop
or TLS. ``ClientConnection`` and ``ServerConnection`` mirror each other over the same codecs: what one encodes
the other decodes, so the two are tested against each other in memory before either meets a real server.

    codec, packets        integers, strings, framing
    capabilities          the numbers both sides must agree on
    handshake, auth       greeting, login, passwords (sha256crypt: the hash MySQL stores; rsa: without TLS)
    commands, results     what is asked and answered once logged in; errors: the ERR packet
    compression           the layer around all packets after a login that agreed on it
    client, login, server the two roles; login is the server's half of the authentication exchange

A peer's mistake raises ``ProtocolError``, an ERR packet received raises ``ServerError``, and a call the state
does not allow raises ``LocalProtocolError`` (a bug of ours).
"""
