"""Files on disk: layout, writing, reading, index, recovery, lock. Knows no network."""
