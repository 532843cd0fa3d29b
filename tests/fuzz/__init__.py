"""Fuzzing: what a stranger can send, sent by the million.

    targets     listener, source, stream, events, gtids, configuration, sql, listing, dump: one module each, whose
                ``run`` takes bytes of any kind, does with them what the product would, and fails when an error comes
                out that errors.py does not know, when more comes out than the input justifies, or when a codec does
                not round-trip
    shapes.py   how bytes become packets: raw, or as framed payloads, so that mutations reach behind the framing
    captures.py seeds: what real servers and clients send, recorded between them
    worker.py   one target under atheris (coverage-guided), in a process of its own
    __main__.py all of them in turn, and a table: ``make fuzz FUZZ='--minutes 60'``

The normal tests run every target over a few thousand inputs of a plain mutator with a fixed seed, and over everything
that was ever found (``findings/TARGET/*``).
"""
