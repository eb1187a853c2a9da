"""From files to arrays, once: the cache and its locks, faces and landmarks, optical flow,
OpenFace's tables.
"""
