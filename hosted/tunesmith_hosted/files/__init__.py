"""Files and uploads, in an object store."""
