"""Model as a service: the OpenAI fine-tuning API over FineTuneJobs and InferenceWorkspaces."""
