"""What all parts agree on: the API of both kinds, statuses, failures, work folders. Pydantic only."""
