"""Files on disks and in buckets: run directories (names, atomic writes), caches, addresses and
their mirrors.
"""
