"""Publishing an adapter beside a base model that several jobs share."""
