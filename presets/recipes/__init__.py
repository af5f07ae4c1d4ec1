"""How the presets were made. It needs the embedded world, so it is not in the wheel."""
