"""The prepare stage: fetch, validate, tokenise."""
