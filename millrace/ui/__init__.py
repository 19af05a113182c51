"""The page: `millrace ui`, which shows all flows in a browser, live, and lets a person do what flows need of one.

It is made on the server: templates give the whole page and, once a tick, those parts of it that have changed, which a
small script puts in their places. Redis is asked once a tick for all who look on, and not at all where nobody does.
"""
