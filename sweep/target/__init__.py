"""What a run trains: a function, a recipe or a command, its source, its inputs and its parameters."""
