"""What a backend is to its clients: the protocol, its events and its errors."""
