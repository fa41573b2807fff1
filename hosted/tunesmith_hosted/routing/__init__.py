"""Requests for answers, sent to the server of the model that they name."""
