"""Files, locks and processes of one machine, for the command line and the stages that it starts."""
