"""Trains the programs of a run elsewhere: as Ray tasks or SLURM jobs."""
