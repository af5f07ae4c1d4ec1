"""The canvas: a Gradio component with its own JavaScript, and the way between its documents and collages."""
