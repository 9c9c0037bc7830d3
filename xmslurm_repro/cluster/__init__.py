"""Clusters: schedulers and container runtimes, by plain shell commands through a transport."""
