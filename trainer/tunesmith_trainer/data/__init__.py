"""Rows of data: reading files, telling formats apart, chat templates, tokenising."""
