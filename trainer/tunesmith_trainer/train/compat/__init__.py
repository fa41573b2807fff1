"""The private parts of libraries that training relies on, one module for each library.

tests/integration/train/test_compat.py fails when a library changes one of them.
"""
