"""The interface of plugins: specs, hooks, the base of strategies, and the registry that finds them."""
