"""What tests of the hosted service share."""

from support.postgres import database_url, postgres, postgres_url

__all__ = ["database_url", "postgres", "postgres_url"]
