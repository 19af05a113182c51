"""Scaling: how many consumers a flow should have, told to KEDA by a service, or seen to on this machine."""
