"""Where the programs of a run are trained: Ray tasks, SLURM jobs."""
