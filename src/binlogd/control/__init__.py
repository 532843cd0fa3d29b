"""Between the processes: the supervisor, the sockets they talk over, the status they put together."""
