"""Data on disk: LeRobotDataset v3.0 written and read, exploratory rollouts collected."""
