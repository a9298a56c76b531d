"""Many peers, scripted: the simulator with a virtual clock, and real daemons on a LAN of network namespaces."""
