"""The daemon's REST API on loopback: the one channel between the owner's commands and the peer that runs."""
