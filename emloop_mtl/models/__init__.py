"""Models: the protocol, and networks declared as tasks with a flow."""
