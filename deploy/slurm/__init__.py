"""Sweeps on a Slurm cluster: one allocation, one Ray cluster, one batch script."""
