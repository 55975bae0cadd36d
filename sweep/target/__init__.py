"""The target of a run: a function, a recipe or a command, with its source, its inputs and its parameters."""
