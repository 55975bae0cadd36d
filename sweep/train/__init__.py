"""The built-in trainer: recipes, their parameters, data, models and the loop. Importing this loads no torch."""
