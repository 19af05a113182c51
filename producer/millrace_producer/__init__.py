"""The producer service: source → queue."""
