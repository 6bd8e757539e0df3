"""What a plugin imports and how it is found: specs, hooks, the base of strategies, the registry."""
