"""The processes beside the web server: the training worker and the previewer."""
