"""The consumer service: queue → sink."""
