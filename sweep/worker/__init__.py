"""The worker: a bundle of runs becomes records, the same in every engine. What trains in this process loads torch."""
