"""HTTP: status, health. Reads status snapshots only."""
