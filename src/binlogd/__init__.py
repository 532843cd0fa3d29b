"""binlogd: a MySQL binlog server.

It connects to a MySQL source as a semi-synchronous replica, keeps the source's binary log byte for byte and
durably, and serves it to replicas as if it were the source.
"""

__version__ = "0.1.0"
