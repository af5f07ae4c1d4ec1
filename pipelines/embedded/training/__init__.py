"""How the embedded model was made: its world (art, places, captions) and its training; part of the extra
``train``, not of the wheel.
"""
