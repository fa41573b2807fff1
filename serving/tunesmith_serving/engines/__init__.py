"""One engine for each kind of model, behind the protocol in `base`."""
