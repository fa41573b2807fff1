"""Checks the rows of files, line by line, and says of each that is wrong where it is and what to write."""
