"""Replication data, pure: GTID sets, event codecs, checksums, and the framing of events. Knows no socket, no file."""
