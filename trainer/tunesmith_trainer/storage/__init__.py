"""Files, here and in object stores: URIs, transfer, and the work store of a job."""
