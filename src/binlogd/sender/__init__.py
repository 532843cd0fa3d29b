"""To replicas: where to start (plan), the connection (session), the dump (dump), statements (sql)."""
