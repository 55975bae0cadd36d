"""Analysis of run directories, each read once into frames. Results are numbers, codes and frames, never sentences."""
