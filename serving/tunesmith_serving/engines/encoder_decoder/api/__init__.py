"""Translation in the shapes that clients speak: chat completions, and the inputs and parameters of the task APIs."""
