"""LoRA adapters beside one base: reading them, and giving each row of a batch its own. It does not depend on HTTP."""
