"""Render: what runs a flows file's services on other people's engines, written from it and from a few values."""
