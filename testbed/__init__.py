"""Real servers, load and faults for tests, demo and benchmarks."""
