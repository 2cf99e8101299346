"""Workflows in the store: what they are, their runs, each run's history, what the event log says to them."""
