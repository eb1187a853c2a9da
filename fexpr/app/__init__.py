"""A page in the browser for one trained model: photo, webcam, video. It runs on this machine and
sends nothing away.
"""
