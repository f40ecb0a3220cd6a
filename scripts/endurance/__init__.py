"""Real daemons on disk under real load: killed at random moments (`torture`), or left running for long (`soak`)."""
