"""What is there: watches, resynchronisation and the store that they fill."""
