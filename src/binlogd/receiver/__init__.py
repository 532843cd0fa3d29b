"""From the source to the store: what to ask for (plan), the connection (link, session), the loop (receiver)."""
