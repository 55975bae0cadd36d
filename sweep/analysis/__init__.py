"""A run directory read once into frames, and what follows from them: numbers, codes and frames, never a sentence."""
