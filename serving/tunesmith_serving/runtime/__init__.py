"""What every part of the server uses: its configuration, its errors, the processors it may use."""
