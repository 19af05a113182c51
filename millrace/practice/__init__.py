"""What the demo and the tests read instead of the world: a site and an event stream of our own, on this machine."""
