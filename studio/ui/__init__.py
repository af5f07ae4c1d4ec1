"""The page. Importing this loads Gradio; `build` makes the app, `launch` serves it."""

from studio.ui.layout import build, launch, launch_options

__all__ = ["build", "launch", "launch_options"]
