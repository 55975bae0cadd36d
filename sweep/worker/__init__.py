"""The worker: it turns a bundle of runs into records, the same way in every engine. Training here loads torch."""
