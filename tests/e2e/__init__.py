"""binlogd as a whole, between real servers."""
