"""Used by every part of the server: its configuration, its errors and the number of processors."""
