"""How fast binlogd is, each figure beside its peer's: ``make bench``.

A *section* measures one thing: it yields samples, one for each contender of each row of each round. Contenders take
turns within a round, so that a slow moment of the machine hits all of them; what is shown is the median of the rounds.
Nothing is typed in: every figure in the table, every target's ratio and every point of a plot is computed from the
samples, which are all in results.json.

    samples     what a measurement is, and what a section says of itself
    usage       CPU time, peak memory and end of a process, from /proc
    stage       where a run takes place: folder, servers, options; undone at its end
    loads       what is put into a source before it is measured
    clients     a replication client, and the process in which such clients read and throw away
    catch_up, serving, commits, seeks, memory, fanout    the sections
    report, plots, machine    what comes out

CRC-32, fdatasync before every acknowledgement and serving only what is published are on in every figure of binlogd's.
"""
