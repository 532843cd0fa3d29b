"""Tests of binlogd.cli."""
