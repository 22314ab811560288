"""Which convolutions are computed by Winograd tiles: where it is faster on this device and exact enough."""
