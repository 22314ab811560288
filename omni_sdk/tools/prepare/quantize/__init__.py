"""INT8 where it is faster on this device and good enough, and nowhere else."""
