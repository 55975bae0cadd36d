"""The built-in trainer: recipes, their parameters, data, models and the loop. No torch is loaded here."""
