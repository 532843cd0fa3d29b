"""Tests of binlogd.config."""
