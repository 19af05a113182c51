"""Sources and sinks of Millrace that only a benchmark needs; its flows name them by dotted path."""
