"""The prepare stage: fetches, validates and tokenises."""
