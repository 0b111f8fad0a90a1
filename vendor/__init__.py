"""What is pinned: sd-scripts' commit, requirement locks, option snapshots, LyCORIS presets."""
