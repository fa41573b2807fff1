"""What the console shows of a job: its status, curve, gates and worst predictions."""
