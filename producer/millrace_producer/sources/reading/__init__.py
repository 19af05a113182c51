"""Files, from where they lie to the records in them: what the files source is made of."""
