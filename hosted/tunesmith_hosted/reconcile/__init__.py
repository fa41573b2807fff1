"""Makes the backend's objects what the database says, and reads back what became of them."""
