"""A run from config to finished directory: data, engine, training loop, results; sweeps, status,
launchers.
"""
