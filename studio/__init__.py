"""The studio: documents, files, compositing, command line and page; importing it loads no torch."""
