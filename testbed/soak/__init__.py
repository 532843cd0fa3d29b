"""``make soak``: nothing that was acknowledged is lost when processes are killed, for real and round after round.

Clients commit at a semi-synchronous source and journal every commit that returned. Meanwhile kill -9 hits the
receiver, the sender, the supervisor, all of binlogd, the source and the replica, at moments drawn from a seed; at the
end of a round everything is up again and all three must hold the same. A round in which the source dies can be
looked at while it is dead, too: what binlogd then has, and has given to the replica, is all that would be left of the
clients' commits after a failover.

    plan.py     what is killed when, from a seed: pure
    judge.py    what was observed and what is wrong with it: pure
    site.py     the source, binlogd and the replica: how each is killed and comes back
    rounds.py   plays one plan, and observes from outside
    report.py   the line of a round, the table at the end

What kill -9 cannot show is a missing sync: the kernel keeps what a dead process wrote. Power loss is a model of its
own, over the store's file operations (tests/store/powerloss.py).
"""
