"""The diffusion backend: requests in, events out; importing it loads no torch."""
