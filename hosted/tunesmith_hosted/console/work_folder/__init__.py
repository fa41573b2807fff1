"""The console over what `tunesmith run` leaves on one machine: from its work folders, without a database and keys."""
