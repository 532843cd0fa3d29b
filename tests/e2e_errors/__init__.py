"""Bad input and bad luck of whole processes: one clear line, the right exit code, nothing lost or half-written."""
