"""The work loop: a queue of names and the workers that reconcile them."""
